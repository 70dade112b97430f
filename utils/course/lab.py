"""Opens JupyterLab in the course's environment: `make lab`.

JupyterLab and its kernels run without the user's own settings (`utils._isolation`); what is chosen
in its menus is kept in `.cache/jupyter`.
"""

from jupyterlab.labapp import main

if __name__ == "__main__":
    main()
