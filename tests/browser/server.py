"""The service as `gena serve` runs it, for tests that have a bundle and need no converter."""

from app.logs import configure_logging
from app.main import create_app
from app.server import bind, serve
from app.settings import Settings


def main() -> None:
    settings = Settings()
    configure_logging(settings)
    serve(create_app(settings), settings, bind(settings.host, settings.port))


if __name__ == "__main__":
    main()
