"""What ships in the package beside its code: `embedded`, a small trained model with its card."""
