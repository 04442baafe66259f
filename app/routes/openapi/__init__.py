"""What FastAPI cannot derive of the OpenAPI document: bodies, answers, problems of data routes."""
