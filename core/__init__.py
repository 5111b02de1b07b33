"""The work of the pack: functions on tensors, boxes and small settings objects.

The map of the rooms, from the ground up. A room imports only itself and the rooms above its line,
and only `host` imports ComfyUI. `tests/test_rooms.py` checks both.

    geometry       boxes, sizes, crop regions and working sizes, in whole pixels
    settings       frozen dataclasses that travel from a node to the core
    user_settings  settings of the user, in a file that no workflow can change
    bounds         how large things may get, checked before memory is allocated
    streams        latents of one stream or several, such as video with sound
    clips          frames of a video, in memory or read and written slice by slice
    noise          the noise that sampling starts from, and seeds
    memory         out of memory: how it is recognised, and how work continues in smaller parts
    timing         which stage of a run takes how long
    files          tensors and latents in files, read without running anything
    pixels         images and masks: resize, blur, blend, colours, rotated crops, windows
    checked_calls  checks of what callables of users and of other packs return
    hook_protocol  the points of a run at which a hook may change values
    segs           SEGS: made from masks, filtered, edited, tiled, named by person, pasted
    detectors      find things in images: YOLO, ONNX, MTCNN, LBP, CLIPSeg, SAM
    tracks         things followed through the frames of a clip, and the windows around them
    prompts        texts, conditionings cut to a crop, ControlNets, LoRAs
    backend        the protocol of the engine that encodes, samples and decodes
    sampling       noise levels, sampler runs, many runs as one, regions, upscaling
    detail         the detailers: plan, crops, pipeline of a crop, pasting, clips
    hooks          the hooks of this pack
    graph          the graph around the nodes: switches, ids, old files, links, inputs
    host           ComfyUI; its abilities are tested, and not its version

The glossary; each word has one meaning:

    segment         a thing in an image that is redrawn
    SEG, SEGS       a segment as it crosses links: a named tuple; (image size, list of SEG)
    bounding box    the smallest upright box around the segment, `bbox`
    crop region     the part of the image around the segment that the model gets
    rotated crop    a rotated rectangle in a crop region, which is turned upright for sampling
    working size    width and height to which a crop is resized for sampling
    canvas          the working size, padded to multiples that the VAE and the model need
    job             one segment of one image, with its size, seed and text
    plan            the jobs of an image, and the segments that are skipped, before anything runs
    segment plan    rules of the user that give single segments settings of their own
    rule            a selector, which chooses segments, and what it sets for them
    level           jobs that do not depend on one another: none is cropped from another's result
    wave            the jobs of one level that are sampled side by side
    batch           images of a node's input, or tensors stacked along their first axis
    row             one entry of a batch
    pipeline        all steps of one crop as a generator, which pauses where it asks for heavy work
    request         what a pipeline asks for: to encode, sample or decode
    clip            frames of a video that are sampled together
    track           one thing in the consecutive frames in which it was found
    window          the rectangle at sub-pixel places that follows a track; it may leave the frame
    gap             frames in which a track was not found, between frames in which it was
    meeting         frames in which two tracks lie over one another; one of them may be nearer
    cycle           one of several passes of the sampler over the same latent
    stream          one of the tensors of a latent: picture, sound
    embedder        a network that converts an image to a vector, by which persons are told apart
    sight           a segment as one image shows it, cropped for an embedder
    recording       results of another program that tests compare with
"""
