"""moto's server with only the services that a test uses: the others can start containers. Options are those of
`moto_server`."""

from moto import server
from werkzeug.exceptions import Forbidden

SERVICES = {"dynamodb", "moto_api", "s3"}

create_backend_app = server.create_backend_app


def create_allowed_app(service):
    return create_backend_app(service) if service in SERVICES else Forbidden(f"{service} is not served")


server.create_backend_app = create_allowed_app

if __name__ == "__main__":
    server.main()
