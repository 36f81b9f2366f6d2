"""What holds between the schemas, the models, the topics and the bytes."""
