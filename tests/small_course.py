"""The texts of a small course, for the tests of the machinery."""

from dataclasses import replace

from utils.course import build
from utils.exercises import find

LESSON = '''\
# ---
# title: A small lesson
# summary: what the tests need
# minutes: 5
# ---

# %% [markdown]
# # 90 · A small lesson
#
# It has one exercise.

# %%
print(6 * 7)

# %% exercise="conv_macs" points=2
def conv_macs(height, width, kernel, channels, filters, stride):
    """Return the multiply-adds."""
    ### BEGIN SOLUTION
    rows, columns = -(-height // stride), -(-width // stride)
    return rows * columns * kernel * kernel * channels * filters
    ### END SOLUTION

# %% check="conv_macs"
check("conv_macs", conv_macs)
'''
OTHER = """\
# ---
# title: Another
# summary: a second lesson
# minutes: 6
# ---

# %% [markdown]
# # 91 · Another

# %%
print("second")
"""
README = """\
# Title

```
git clone https://github.com/OWNER/REPOSITORY.git course
```

<!-- lessons: written by make notebooks -->
<!-- end of lessons -->

The end.
"""


def borrow_rules(patch):
    """Let the small lesson have the rules of an exercise of lesson 00."""
    rules = replace(find("conv_macs"), lesson="90_small")
    patch.setattr(build, "find", lambda name: rules if name == rules.id else None)
    patch.setattr(build, "of_lesson", lambda name: [rules] if name == rules.lesson else [])
