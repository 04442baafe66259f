"""Figures with ratios: what conversion, prediction and service cost."""
