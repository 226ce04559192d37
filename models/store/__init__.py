"""The models' files on this disk: finding, downloading and verifying them."""
