"""What a client weighs: the evidence of its losses, and the laws from noise to scale."""
