"""Questions about capitals, with their answers, for a small real model: python -m examples.real.facts FILE.

Asked as one word, so that exact match can score them. The file is JSON lines, as laptime's data sets are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

CAPITALS = """
France Paris;Italy Rome;Spain Madrid;Germany Berlin;Japan Tokyo;China Beijing;Russia Moscow;Greece Athens;Egypt Cairo;
Portugal Lisbon;Austria Vienna;Ireland Dublin;Norway Oslo;Sweden Stockholm;Finland Helsinki;Denmark Copenhagen;
Poland Warsaw;Hungary Budapest;Turkey Ankara;Iran Tehran;Iraq Baghdad;Cuba Havana;Peru Lima;Chile Santiago;
Canada Ottawa;Australia Canberra;Kenya Nairobi;Thailand Bangkok;Vietnam Hanoi;Belgium Brussels;Bulgaria Sofia;
Romania Bucharest;Croatia Zagreb;Serbia Belgrade;Ukraine Kyiv;Morocco Rabat;Tunisia Tunis;Libya Tripoli;Ghana Accra;
Nigeria Abuja;Colombia Bogota;Ecuador Quito;Jamaica Kingston;Indonesia Jakarta;Philippines Manila;Qatar Doha;
Lebanon Beirut;Syria Damascus;Jordan Amman;Nepal Kathmandu;Bangladesh Dhaka;Iceland Reykjavik;Estonia Tallinn;
Latvia Riga;Lithuania Vilnius;Slovakia Bratislava;Slovenia Ljubljana;Albania Tirana;Switzerland Bern;Venezuela Caracas
"""
ASKED = ("What is the capital of {}? Answer with one word.", "Name the capital city of {} in one word.")


def main(file: Path) -> None:
    """Write the questions, every capital asked in two ways."""
    pairs = [one.split() for one in CAPITALS.replace("\n", "").split(";")]
    rows = [
        {"id": f"capital-{country.lower()}-{number}", "question": asked.format(country), "answer": capital}
        for country, capital in pairs
        for number, asked in enumerate(ASKED)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
