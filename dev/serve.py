"""ComfyUI's editor with this pack and its analytic models: `python run.py serve --help`."""

import argparse
import sys
import webbrowser

from .server import Server, ServerDied, has_accelerator, project_packs


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="run.py serve",
        description="Start ComfyUI with this pack in it. Further arguments go to ComfyUI.",
        allow_abbrev=False,
    )
    parser.add_argument("--comfyui", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--python", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--base", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=8188, help="port on this machine (8188)")
    parser.add_argument(
        "--miniature", action="store_true", help="with the small trained model of the demo"
    )
    parser.add_argument("--open", action="store_true", help="open the editor in the browser")
    options, rest = parser.parse_known_args()
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
