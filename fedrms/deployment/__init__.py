"""Real servers and clients: Flower's programs, started, watched and stopped."""
