"""ComfyUI's editor with this pack and its analytic models: `python run.py serve --help`."""

import sys
import webbrowser

from .options import serve as serve_options
from .server import Server, ServerDied, has_accelerator, project_packs


def main() -> None:
    options, rest = serve_options().parse_known_args()
    server = Server(
        options.comfyui,
        options.python,
        project_packs(options.miniature),
        args=rest,
        base=options.base,
        port=options.port,
        cpu=not has_accelerator(options.python),
    )
    print(f"Starting ComfyUI in {server.base}, its log is {server.log_file}")
    try:
        serve(server, options.open)
    except ServerDied as error:
        sys.exit(str(error))


def serve(server: Server, open_browser: bool) -> None:
    """Run the server until it is interrupted."""
    with server:
        print(f"Ready at {server.url}; models go into {server.base / 'models'}; Ctrl-C ends it")
        if open_browser:
            webbrowser.open(server.url)
        try:
            server.process.wait()
        except KeyboardInterrupt:
            print("Stopping")


if __name__ == "__main__":
    main()
