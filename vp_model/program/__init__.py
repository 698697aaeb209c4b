"""The program language: one table of operations makes parser, evaluator, grammar and documentation.

`vp_model.program.environment.ProgramEnvironment` runs a program step by step, `vp_model.program.results.build_outcome`
makes the outcome, `vp_model.program.grammar` constrains decoding. Nothing here loads torch.
"""

from vp_model.program.errors import ProgramError

__all__ = ["ProgramError"]
