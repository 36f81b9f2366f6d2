"""Every reference of an OpenAPI document leads somewhere."""

from shared.http.openapi import complete


def test_definitions_inside_a_schema_become_components() -> None:
    nested = {"$ref": "#/$defs/Inner", "$defs": {"Inner": {"items": {"$ref": "#/$defs/Deep"}, "type": "array"}}}
    nested["$defs"]["Deep"] = {"type": "string"}
    document = complete({"paths": {"/": {"post": {"requestBody": {"schema": nested}}}}})

    assert document["paths"]["/"]["post"]["requestBody"]["schema"] == {"$ref": "#/components/schemas/Inner"}
    assert document["components"]["schemas"] == {
        "Inner": {"items": {"$ref": "#/components/schemas/Deep"}, "type": "array"},
        "Deep": {"type": "string"},
    }


def test_a_component_that_is_there_is_kept() -> None:
    schemas = {"Inner": {"type": "integer"}}
    document = complete({"components": {"schemas": schemas}, "x": {"$defs": {"Inner": {"type": "string"}}}})
    assert document["components"]["schemas"]["Inner"] == {"type": "integer"}


def test_an_answer_that_no_route_gives_is_left_out() -> None:
    validation = {
        "422": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}}}
    }
    own = {"422": {"description": "The key was used."}}
    document = complete(
        {
            "paths": {"/a": {"get": {"responses": {"200": {}, **validation}}}, "/b": {"get": {"responses": own}}},
            "components": {"schemas": {"HTTPValidationError": {}, "ValidationError": {}}},
        }
    )
    assert document["paths"]["/a"]["get"]["responses"] == {"200": {}}
    assert document["paths"]["/b"]["get"]["responses"] == own
    assert document["components"]["schemas"] == {}
