"""Records of a training for other programs: TensorBoard, MLflow, Weights & Biases."""
