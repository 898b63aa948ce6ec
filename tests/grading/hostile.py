"""A thousand answers that are made to stall, crash or fool a grader. Not one of them is right."""

import random


GOLDS = ("204", "\\frac{1}{2}", "x^2+1", "\\sqrt{2}", "[0,1)", "\\{1,2\\}", "3\\ln 2", "C")
MEGABYTE = 1_000_000


def boxed(answer: str) -> str:
    return f"So \\boxed{{{answer}}}."


def nested(opening: str, closing: str, depth: int, core: str = "7") -> str:
    return opening * depth + core + closing * depth


def towers(rng: random.Random) -> str:
    a, b, c, d = (rng.randint(5, 99) for _ in range(4))
    form = rng.choice(
        [
            "{a}^{{{b}^{{{c}^{d}}}}}",
            "{a}^{{{b}^{{{c}}}}}",
            "({a}^{b})^{{{c}^{{{d}}}}}",
            "{a}^{{({b}^{{({c})}})}}",
            "{{{a}}}^{{{{{b}}}^{{{c}}}}}",
            "{a}^{{{b}{c}{d}}}",
            "{a}^{{{b}^{{{c}}}}} \\bmod {d}",
            "\\sqrt{{{a}^{{{b}^{{{c}}}}}}}",
            "\\log({a}^{{{b}^{{{c}}}}})",
            "{a}^{{{b}^{{{c}}}}}-{a}^{{{b}^{{{c}}}}}+{d}.5",
            "{a}\\uparrow\\uparrow {b} + {c}",
            "\\exp(\\exp(\\exp(\\exp({a}.{b}))))+{c}",
        ]
    )
    return boxed(form.format(a=a, b=b, c=c, d=d))


def factorials(rng: random.Random) -> str:
    n = rng.randint(1_000, 99_999_999)
    form = rng.choice(
        ["{n}!", "({n}!)!", "\\binom{{{n}}}{{{m}}}", "\\Gamma({n})", "\\frac{{{n}!}}{{{m}!}}", "(({m}!)!)!"]
    )
    return boxed(form.format(n=n, m=n // 2))


def megabytes(rng: random.Random) -> str:
    n = rng.randint(10, 99)
    return rng.choice(
        [
            lambda: "word " * (MEGABYTE // 5) + str(n),
            lambda: "\\boxed{" * (MEGABYTE // 7) + str(n),
            lambda: f"\\boxed{{{str(n) * (MEGABYTE // 2)}}}",
            lambda: "</think>" * (MEGABYTE // 8) + str(n),
            lambda: "<think>" * (MEGABYTE // 7) + boxed(str(n)),
            lambda: "The answer is " * (MEGABYTE // 14) + str(n),
            lambda: "answer" + " " * MEGABYTE + str(n),
            lambda: "$" * MEGABYTE + str(n),
            lambda: boxed("+".join(["x"] * (MEGABYTE // 2)) + f"+{n}"),
            lambda: "{" * MEGABYTE + str(n),
            lambda: "\\boxed{}" * (MEGABYTE // 8) + f"\\boxed{{{n}",
            lambda: "(A) " * (MEGABYTE // 4) + f"(D){n}",
        ]
    )()


def nestings(rng: random.Random) -> str:
    depth = rng.choice([rng.randint(15, 25), rng.randint(26, 200), 2_000])
    opening, closing = rng.choice(
        [
            ("(", ")"),
            ("{", "}"),
            ("[", "]"),
            ("\\frac{1}{1+", "}"),
            ("\\sqrt{2+", "}"),
            ("\\left(", "\\right)"),
            ("|", "|"),
            ("\\sin(", ")"),
            ("-", ""),
            ("\\log_{2}{", "}"),
        ]
    )
    return boxed(nested(opening, closing, depth, str(rng.randint(3, 99))))


def calculus(rng: random.Random) -> str:
    n = rng.randint(10, 99)
    form = rng.choice(
        [
            "\\sum_{{k=1}}^{{10^{{{n}}}}} \\frac{{1}}{{k^2+{n}}}",
            "\\prod_{{k=1}}^{{{n}00000}} k",
            "\\int_0^{{{n}}} e^{{-x^x}}\\sin(x^{{{n}}})dx",
            "\\lim_{{x\\to\\infty}} x^{{x^{{{n}}}}}",
            "\\sum_{{k=1}}^{{{n}000}} k!",
            "\\int\\int\\int \\frac{{\\sin(x^{{{n}}})}}{{\\ln(x)^{{x}}}} dx dy dz",
            "\\prod_{{k=1}}^{{\\infty}} (1+x^{{{n}k}})",
            "\\frac{{d^{{{n}}}}}{{dx^{{{n}}}}} \\tan(x^x)",
        ]
    )
    return boxed(form.format(n=n))


def algebra(rng: random.Random) -> str:
    n = rng.randint(20, 400)
    return boxed(
        rng.choice(
            [
                f"(x+1)^{{{n}}}(x-2)^{{{n + 1}}}",
                "+".join(f"\\sqrt{{{k}}}" for k in range(2, 2 + n // 8)),
                "+".join(f"x^{{{k}}}y^{{{n - k}}}" for k in range(n // 8)),
                f"\\sqrt[{n}]{{2+\\sqrt[{n}]{{3+\\sqrt[{n}]{{5}}}}}}",
                "\\begin{pmatrix}"
                + "\\\\".join("&".join("12x" for _ in range(8)) for _ in range(8))
                + "\\end{pmatrix}",
                "\\sin(" + "+".join(f"\\cos({k}x)" for k in range(n // 8)) + ")",
                "\\{" + ",".join(f"\\sqrt{{{k}}}+{k}" for k in range(2, 2 + n // 8)) + "\\}",
                f"x^{{{n}}}-x^{{{n - 1}}}+1=0",
                f"(x+y+z+w)^{{{n}}}",
                f"(1+\\sqrt{{2}}+\\sqrt{{3}}+\\sqrt{{5}})^{{{n}}}",
            ]
        )
    )


def spam(rng: random.Random) -> str:
    n = rng.randint(205, 400)
    return rng.choice(
        [
            boxed(",".join(map(str, range(n - 150, n)))),
            boxed(f"204 \\text{{ or }} {n}"),
            boxed(f"204{n}"),
            f"\\boxed{{204}}\\boxed{{{n}}}",
            boxed(f"\\frac{{1}}{{2}}, {n}"),
            f"The answer is 204 or {n} or \\frac12",
            f"<think>\\boxed{{204}}</think> {n}",
            f"<think>\\boxed{{\\frac{{1}}{{2}}}} {n}",
            boxed(f"x^2+1 \\text{{ unless }} x={n}"),
            f"ANSWER: A, B, C or D ({n})",
            boxed("ABCDEFGHIJ"[: rng.randint(2, 10)] + str(n)),
            boxed(f"204.00000{n}"),
            boxed(f"203.99999{n}"),
            boxed(f"0.50000{n}"),
        ]
    )


def junk(rng: random.Random) -> str:
    n = rng.randint(0, 10**6)
    return rng.choice(
        [
            boxed(f"__import__('os').system('exit {n}')"),
            boxed(f"exec(chr({n}))"),
            boxed(f'7\n{{"id": {n % 50}, "same": true}}\n'),
            boxed(f"\x00\x1b[2J{n}"),
            boxed("\ud800" + str(n)),
            boxed("".join(chr(rng.randint(32, 0x2FFF)) for _ in range(200))),
            boxed("\\" * 301 + str(n)),
            boxed(f"\\input{{/etc/passwd}}{n}"),
            boxed("\\frac" * 60 + str(n)),
            boxed("^" * 100 + str(n)),
            boxed("_" * 100 + str(n)),
            boxed("&" * 100 + str(n)),
            boxed("".join(rng.choice("\\{}()[]^_&$%#0123456789abcxyz+-*/=<>,.") for _ in range(300))),
            boxed(f"\\def\\x{{\\x\\x}}\\x {n}"),
            boxed(f"{n}e{n}"),
            boxed(f"\\frac{{{n}}}{{0}}"),
        ]
    )


KINDS = (towers, factorials, megabytes, nestings, calculus, algebra, spam, junk)


def hostile_pairs(count: int = 1_000, seed: int = 0) -> list[tuple[str, str, str]]:
    """
    Different hostile answers.

    Args:
        count (`int`, *optional*, defaults to `1000`):
            How many.
        seed (`int`, *optional*, defaults to `0`):
            Seed.

    Returns:
        `list[tuple[str, str, str]]`: kind, completion and ground truth.
    """
    rng = random.Random(seed)
    pairs: dict[tuple[str, str], str] = {}
    while len(pairs) < count:
        kind = KINDS[len(pairs) % len(KINDS)]
        pairs[kind(rng), rng.choice(GOLDS)] = kind.__name__
    return [(kind, text, gold) for (text, gold), kind in pairs.items()]
