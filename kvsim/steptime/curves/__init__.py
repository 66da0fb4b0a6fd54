"""Step times as the engine asks for them: formulas and tables. Compiled with it."""
