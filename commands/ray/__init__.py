"""`action-clip ray`: any number of videos on one machine or many, with Ray Data."""
