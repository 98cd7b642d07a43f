COMMAND = "experiments.cues.shared"


def text(lines):
    return ""
