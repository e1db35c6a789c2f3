"""Pages from the templates that ship inside packages of ours."""

from __future__ import annotations

from typing import Any

import jinja2


def render(package: str, template: str, **values: Any) -> str:
    """Fills in a template of a package's folder `templates`, from a source tree or a wheel.

    In .html values are escaped, unless they are markupsafe.Markup; in .md they are not. A template
    may include the others of its folder, such as its style sheet: everything ends up in one file.

    Args:
      package: dotted name of a package, such as "fields_jax.report".
      template: file name in its folder `templates`.
      **values: by the names that the template uses.

    Raises:
      jinja2.TemplateNotFound: no such template.
      jinja2.UndefinedError: the template uses a name that was not given.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=lambda name: not (name or "").endswith(".md"),
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(values)
