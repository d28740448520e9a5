"""What lies beside the records in every archive and explains them."""
