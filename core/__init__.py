"""What happens: functions on tensors, boxes and small settings objects.

The map of the rooms, from the ground up. A room imports itself and those above its line here, and
none below it; `host` alone imports ComfyUI. `tests/test_rooms.py` holds both.

    geometry       boxes, sizes, crop regions and working sizes, in whole pixels
    settings       frozen dataclasses that travel from a node to the core
    user_settings  what the person whose ComfyUI it is has set in a file
    bounds         how large things may get, checked before memory is taken
    streams        latents of one stream or several, such as video with sound
    noise          the noise that sampling starts from, and seeds
    memory         want of memory: recognised, and gone on with in smaller parts
    timing         which stage of a run takes how long
    files          tensors and latents in files, read without running anything
    pixels         images and masks: resize, blur, blend, colours, rotated crops
    checked_calls  what callables of users and other packs give back, checked
    hook_protocol  the points of a run at which a hook may step in
    segs           SEGS: made from masks, filtered, edited, tiled, pasted
    detectors      what finds things: YOLO, ONNX, MTCNN, LBP, CLIPSeg, SAM
    prompts        texts, conditionings cut to a crop, ControlNets, LoRAs
    backend        the protocol: what is asked of the engine that samples
    sampling       noise levels, sampler runs, many runs as one, regions, upscaling
    detail         the detailers: plan, crops, pipeline of a crop, pasting, clips
    hooks          the hooks of this pack
    graph          the graph around the nodes: switches, ids, old files, links, inputs
    host           ComfyUI, by abilities and not by versions

The words, each in one sense:

    segment         a thing in an image that is to be redrawn
    SEG, SEGS       a segment as it crosses links: a named tuple; (image size, list of SEG)
    bounding box    the smallest upright box around the segment, `bbox`
    crop region     the part of the image around it that the model gets to see
    rotated crop    the leaning rectangle in a crop region that is turned upright for sampling
    working size    width and height to which a crop is resized for sampling
    canvas          the working size, padded to what VAE and model need multiples of
    job             one segment of one image, with its size, seed and text
    plan            the jobs of an image and the segments that are skipped, decided beforehand
    level           jobs that do not depend on one another: none sees what another one pastes
    wave            the jobs of one level that are worked on side by side
    batch           images of a node's input, or tensors stacked along their first axis
    row             one entry of a batch
    pipeline        all steps of one crop as a generator, which pauses where it asks for heavy work
    request         what a pipeline asks for: to encode, sample or decode
    clip            frames of a video that are sampled together
    cycle           one of several passes of the sampler over the same latent
    stream          one of the tensors of a latent: picture, sound
    recording       results of another program that tests compare with
"""
