"""Training the embedded model's text network; building its graphs needs none of this."""
