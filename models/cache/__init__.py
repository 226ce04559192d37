"""What is kept to save time: text features, and graphs as onnxruntime optimises them."""
