"""What ops take: refusals of what contradicts itself, and lists of integers."""


def refuse_unless(condition, why):
    if not condition:
        raise ValueError(why)


def integers(tensor):
    return [int(number) for number in tensor]
