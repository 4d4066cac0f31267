"""Trained models for others: ONNX with preprocessing inside, checked and timed, and the card that goes with it."""
