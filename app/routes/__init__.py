"""The endpoints."""

from app.routes import embeddings, features, openai, tokenize

data_routers = (features.router, embeddings.router, tokenize.router, openai.router)
