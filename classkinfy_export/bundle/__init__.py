"""The bundle: manifest, writing it whole, and opening it only when every hash matches."""
