"""Asks validators that are libraries of Python.

validate.py compose SCHEMA FILE...    whether compose files follow the schema of the compose specification
validate.py promql                    whether the lines of the standard input are PromQL
"""

import json
import sys
import warnings

import jsonschema
import promql_parser
import yaml

warnings.simplefilter("ignore")


def compose(schema, *files):
    with open(schema) as text:
        schema = json.load(text)
    validator = jsonschema.validators.validator_for(schema)(schema)
    for file in files:
        with open(file) as text:
            document = yaml.safe_load(text)
        for error in validator.iter_errors(document):
            place = "/".join(map(str, error.absolute_path))
            yield f"{file}: {place}: {error.message}"


def promql():
    for line in sys.stdin:
        try:
            promql_parser.parse(line.strip())
        except ValueError as error:
            yield f"{line.strip()}: {error}"


problems = list({"compose": compose, "promql": promql}[sys.argv[1]](*sys.argv[2:]))
print("\n".join(problems))
sys.exit(1 if problems else 0)
