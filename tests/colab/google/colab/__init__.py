"""Stands where Colab has its own module, and does nothing: notebooks only see that it is there."""
