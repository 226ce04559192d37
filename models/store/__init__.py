"""Where the models' files are: downloaded, verified, kept."""
