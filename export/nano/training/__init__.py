"""Training the embedded model's text network; writing its graphs does not depend on this package."""
