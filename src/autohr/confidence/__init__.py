"""Confidence in a heart rate: evidence from the clip, a fitted model, and a verdict with its reason."""
