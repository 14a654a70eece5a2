"""A Flower app with a small text model, in Hugging Face's manner, and FedRMS for FedAvg."""
