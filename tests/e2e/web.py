"""A web server in a container, and clients of it."""

from tests.lab import Host

from .fabric import Container, run

SERVER = ("sh", "-c", "echo $NAME >/var/www/index.html; exec httpd -f -p [::]:80 -h /var/www")


def serve(host: Host, network: str, *options: str, name: str) -> Container:
    """A web server that tells its name."""
    return run(host, network, "-e", f"NAME={name}", *options, name=name, command=SERVER)


def fetch(host: Host, address: str, port: int, inside: Container | None = None) -> str:
    """What a web server says to a client on the host, or inside a container of it; "" when it is not reached."""
    url = f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"
    command = ("curl", "-sS", "--globoff", "--connect-timeout", "3", "--max-time", "10", "--noproxy", "*", url)
    if inside is None:
        return host.run(*command, check=False).stdout.strip()
    return host.netns_run(inside.name, *command, check=False).stdout.strip()
