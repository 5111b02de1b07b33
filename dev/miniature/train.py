"""Trains the miniature from scratch: `python -m dev.miniature.train --stage codec --minutes 20`.

The stages are `codec`, the autoencoder; `unet`, the diffusion model with its text encoder, in the
latent space of the codec as it is then; `decoder`, more of the autoencoder's decoder, which leaves
that space as it is; and `people`, the network that tells people apart, which has nothing to do with
the others. Each writes its weights beside this file. A CPU or a GPU will do; on several cores the
stage `unet` is faster in several processes (team.py).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

RATES = {"codec": 1.5e-3, "unet": 1e-3, "decoder": 6e-4, "people": 2e-3}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.miniature.train", description=__doc__)
    parser.add_argument("--stage", choices=list(RATES), required=True)
    parser.add_argument("--minutes", type=float, required=True, help="time to train")
    parser.add_argument("--comfyui", type=Path, required=True, help="ComfyUI's folder")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--rate", type=float, help="peak learning rate")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--checkpoints", type=Path, default=Path("miniature-checkpoints"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    from .host_import import use_host

    use_host(options.comfyui, cpu=options.device == "cpu")

    from .session import Plan, Session
    from .team import Team
    from .train_codec import train_codec
    from .weights import CODEC, load_codec, save_weights

    rate = options.rate or RATES[options.stage]
    plan = Plan(options.minutes, rate, options.device, options.checkpoints, options.resume)
    team = Team.of_environment()
    if team.parts > 1 and options.stage != "unet":
        parser.error(f"the stage {options.stage} trains in one process: start it without torchrun")
    session = Session(options.stage, plan, team)
    if options.stage == "unet":
        from .train_unet import train_unet

        train_unet(session, load_codec().to(session.device))
        return 0
    if options.stage == "people":
        from .people import write_embedder
        from .train_people import train_people

        write_embedder(train_people(session).cpu())
        return 0
    train_codec(session, decoder_only=options.stage == "decoder")
    save_weights(CODEC, session.average)
    return 0


if __name__ == "__main__":
    sys.exit(main())
