"""The loader of the cyclers of my lab."""
