"""What is measured, and how to run it; nothing here is needed at run time."""
