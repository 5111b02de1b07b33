"""Folder runs: a workflow applied to every picture or clip of a folder, resumed after any stop.

It stands beside the pack and beside ComfyUI: ComfyUI servers do the work and are talked to over
HTTP alone. The modules, from the ground up; each imports only those before it:

    faults      what can go wrong, by who has to act: a unit, a server, the run
    settings    what a run is told, and what of it decides the results
    files       hashes, durable writes, names that fit
    ledger      the SQLite file in OUT: what is to be done, goes on, is done
    workflow    the prompt: where the input goes, overrides, seeds, what it saves
    models      the model files that a prompt names
    units       what is to be done: the files of IN, clips cut into parts
    pictures    formats and metadata of what comes back
    clips       a part of a clip as a file, parts put together
    outputs     results into OUT: temporary name, sync, rename
    scheduler   who gets which unit, and what becomes of a fault; no threads, no clock of its own
    dispatch    scheduler, ledger and outputs as one: take, finish, flush
    joining     clips whose parts are done
    client      HTTP to one ComfyUI, with time limits; its answers are checked
    guard       a process that ends a ComfyUI when the driver is gone
    child       a ComfyUI of our own: started, watched, started anew
    convert     editor-format workflows, by the host's editor in headless Chromium
    worker      a unit on a server, from the file to what was saved
    places      where workers are: threads of this process
    crew        all workers of a run: children of our own, or servers that run already
    ray_places  actors of a Ray cluster
    progress    the line that tells how far the run is
    report      what the ledger has to tell: --status and --report
    driver      a run from start to end
    cli         the command line

A *unit* is one piece of work: a file, or a part of a clip. A *worker* is one ComfyUI and what talks
to it. A *place* is a worker as the driver sees it. The *driver* is the one process that owns the
ledger.
"""
