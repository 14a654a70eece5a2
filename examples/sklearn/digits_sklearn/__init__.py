"""A plain Flower app (scikit-learn) with FedRMS swapped in for FedAvg."""
