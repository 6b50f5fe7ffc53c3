"""Reads a whole PEP script: ``param()``, then statements that are pipelines of commands."""

from __future__ import annotations

import re
from typing import NoReturn

from bridge.endpoint.script._characters import (
    DOUBLE_QUOTES,
    END,
    SINGLE_QUOTES,
    forces_new_token,
    is_blank,
    is_identifier_start,
    is_newline,
)
from bridge.endpoint.script._expressions import ExpressionReader, Parts
from bridge.endpoint.script._numbers import match_number
from bridge.endpoint.script._source import Source
from bridge.endpoint.script._syntax import (
    Argument,
    Array,
    Attribute,
    CommandCall,
    Expandable,
    Expression,
    Index,
    Member,
    Number,
    ParameterDeclaration,
    Program,
    Splat,
    Text,
)

LONGEST_TEXT = 1_000_000  # characters; a script is read into memory
_MERGE = {"2": "error", "3": "warning", "4": "verbose", "5": "debug", "6": "information", "*": "all"}
_REDIRECTION = re.compile(r"(?P<from>[1-6*])?(?:>>|>(?P<to>&[12])?)|<")
_ENDS_POINT = SINGLE_QUOTES + DOUBLE_QUOTES + "$"
_SPECIAL_IN_WORD = re.compile(rf"[`${SINGLE_QUOTES}{DOUBLE_QUOTES}]")
_LOOSE_PROMPT = re.compile(r"(?:PS\b[^\n\r]*?>|>>|[A-Za-z]:\\[^\s>|]*>)", re.IGNORECASE)
_STATEMENT_KEYWORDS = {
    "if": "MissingOpenParenthesisInIfStatement",
    "foreach": "MissingOpenParenthesisAfterKeyword",
    "for": "MissingOpenParenthesisAfterKeyword",
    "while": "MissingOpenParenthesisAfterKeyword",
    "do": "MissingLoopStatement",
    "switch": "PipelineValueRequired",
    "try": "MissingTryStatementBlock",
    "throw": "",
    "return": "",
    "exit": "",
    "break": "",
    "continue": "",
    "function": "MissingNameAfterKeyword",
    "filter": "MissingNameAfterKeyword",
    "workflow": "MissingNameAfterKeyword",
    "data": "MissingStatementBlockForDataSection",
    "trap": "MissingTrapStatement",
    "using": "MissingUsingStatementDirective",
    "class": "MissingNameAfterKeyword",
    "enum": "MissingNameAfterKeyword",
    "var": "ReservedKeywordNotAllowed",
    "define": "ReservedKeywordNotAllowed",
    "from": "ReservedKeywordNotAllowed",
    "parallel": "MissingStatementAfterKeyword",
    "sequence": "MissingStatementAfterKeyword",
    "configuration": "MissingConfigurationName",
}
_CLAUSES = ("begin", "process", "dynamicparam", "clean", "end")
_ONE_COMMAND_FIX = "Write plain commands, one a line; decide and loop on the client, around the script."


def parse(source: Source) -> Program:
    """The program that the text holds.

    Raises:
        ScriptRefusedError: it does not parse, or holds what no NoLanguage endpoint accepts.
    """
    return _ProgramReader(source).program()


class _ProgramReader(ExpressionReader):
    _inside_end_clause = False

    def program(self) -> Program:
        self._check_text()
        self._skip_statement_ends(semicolons=False)
        attributes, parameters = self._param_block()
        statements = self._statements_until_end()
        if not statements:
            self.refuse("CantConvertEmptyPipeline", "there is no command", "Write at least one command.", start=0)
        return Program(attributes, parameters, tuple(statements))

    def _check_text(self) -> None:
        if len(self.text) > LONGEST_TEXT:
            self.refuse("BridgeTooLong", f"the text is longer than {LONGEST_TEXT} characters", "Split it.", end=40)
        found = re.search(r"[\x00\ud800-\udfff]", self.text)
        if found is not None:
            detail = "the text holds a character that no script may hold (NUL or half of a pair)"
            self.refuse("BridgeCharacter", detail, "Remove it.", start=found.start(), end=found.end())

    def _skip_statement_ends(self, *, semicolons: bool = True) -> None:
        self.skip_blanks_and_newlines()
        while semicolons and self.peek() == ";":
            self.at += 1
            self.skip_blanks_and_newlines()

    # -- param() --------------------------------------------------------------------------------------------------

    def _param_block(self) -> tuple[tuple[Attribute, ...], tuple[ParameterDeclaration, ...] | None]:
        start = self.at
        attributes = tuple(self._attributes()) if self.peek() == "[" else ()
        self.skip_blanks_and_newlines()
        if self._take_word("param"):
            return attributes, self._declarations()
        if attributes:
            detail = "a pipeline cannot start with an expression"
            self.refuse("CantConvertPipelineStartsWithExpression", detail, start=start)
        self.at = start
        return (), None

    def _take_word(self, word: str) -> bool:
        """Move behind ``word`` and a following ``(``; false, without moving, where they are not there."""
        start = self.at
        end = self.at + len(word)
        if self.text[start:end].lower() != word:
            return False
        self.at = end
        self.skip_blanks_and_newlines()
        if self.peek() != "(":
            self.at = start
            return False
        return True

    def _attributes(self) -> list[Attribute]:
        found: list[Attribute] = []
        while self.peek() == "[":
            found.append(self._attribute())
            self.skip_blanks_and_newlines()
        return found

    def _attribute(self) -> Attribute:
        """``[Name(...)]``, or a type: then an attribute without parentheses, whose name ends with ``[]`` for a list."""
        start = self.at
        try_type = re.compile(r"\[[ \t]*[A-Za-z_][\w.]*[ \t]*(?:\[[ \t]*\])?[ \t]*\]").match(self.text, self.at)
        if try_type is not None:
            name = self.type_name()
            return Attribute(start, self.at, f":{name.name}", (), ())
        self.at += 1
        self.skip_blanks_and_newlines()
        found = re.compile(r"[A-Za-z_][\w.]*").match(self.text, self.at)
        if found is None:
            self.refuse("MissingTypename", "an attribute or a type is expected here", start=start)
        self.at = found.end()
        self.skip_blanks()
        if self.peek() != "(":
            self.refuse("EndSquareBracketExpectedAtEndOfAttribute", "a ']' is missing here", start=start)
        positional, named = self._attribute_arguments()
        self.skip_blanks_and_newlines()
        if self.peek() != "]":
            self.refuse("EndSquareBracketExpectedAtEndOfAttribute", "a ']' is missing here")
        self.at += 1
        return Attribute(start, self.at, found[0], tuple(positional), tuple(named))

    def _attribute_arguments(self) -> tuple[list[Expression], list[tuple[str, Expression | None]]]:
        positional: list[Expression] = []
        named: list[tuple[str, Expression | None]] = []
        start = self.at
        self.at += 1
        self.skip_blanks_and_newlines()
        while self.peek() != ")":
            begin = self.at
            name = self.identifier()
            self.skip_blanks()
            if name and self.peek() == "=":
                self.at += 1
                self.skip_blanks_and_newlines()
                named.append((name, self.expression(commas=False)))
            elif name and self.peek() in (",", ")", "\r", "\n"):
                named.append((name, None))
            else:
                self.at = begin
                positional.append(self.expression(commas=False))
            self.skip_blanks_and_newlines()
            if self.peek() != ",":
                break
            self.at += 1
            self.skip_blanks_and_newlines()
            if self.peek() == ")":
                self.refuse("MissingExpressionAfterToken", "something is missing after the comma")
        self._expect(")", "MissingEndParenthesisInExpression", start)
        return positional, named

    def _declarations(self) -> tuple[ParameterDeclaration, ...]:
        start = self.at
        self.at += 1
        self.skip_blanks_and_newlines()
        found: list[ParameterDeclaration] = []
        while self.peek() != ")":
            found.append(self._declaration())
            self.skip_blanks_and_newlines()
            if self.peek() != ",":
                break
            self.at += 1
            self.skip_blanks_and_newlines()
            if self.peek() == ")":
                self.refuse("MissingExpressionAfterToken", "a parameter is missing after the comma")
        self._expect(")", "MissingEndParenthesisInFunctionParameterList", start)
        self._refuse_duplicates(found)
        return tuple(found)

    def _refuse_duplicates(self, declarations: list[ParameterDeclaration]) -> None:
        seen: set[str] = set()
        for declaration in declarations:
            if declaration.name.lower() in seen:
                detail = f"the parameter ${declaration.name} is declared twice"
                self.refuse("DuplicateFormalParameter", detail, "Remove one.", start=declaration.start)
            seen.add(declaration.name.lower())

    def _declaration(self) -> ParameterDeclaration:
        start = self.at
        attributes = self._attributes()
        variable = self.variable() if self.peek() == "$" else None
        if variable is None:
            self.refuse("MissingEndParenthesisInFunctionParameterList", "a parameter ($Name) is expected here")
        if not re.fullmatch(r"[^\W\d]\w*", variable.name) or variable.name.lower() in ("true", "false", "null", "args"):
            self.refuse("BridgeParameterName", "this is not a name for a parameter", end=variable.end)
        self.at = variable.end
        end = self.at
        self.skip_blanks_and_newlines()
        default: Expression | None = None
        if self.peek() == "=":
            self.at += 1
            self.skip_blanks_and_newlines()
            default = self.expression(commas=False)
            end = self.at
        types = [attribute.name[1:] for attribute in attributes if attribute.name.startswith(":")]
        if len(types) > 1:
            self.refuse("BridgeTypeName", "a parameter has one type", "Remove the other.", start=start, end=end)
        real = tuple(attribute for attribute in attributes if not attribute.name.startswith(":"))
        return ParameterDeclaration(start, end, variable.name, types[0] if types else None, real, default)

    # -- statements -----------------------------------------------------------------------------------------------

    def _statements_until_end(self) -> list[tuple[CommandCall, ...]]:
        self._skip_statement_ends()
        self._inside_end_clause = self._open_end_clause()
        closing = "}" if self._inside_end_clause else END
        found: list[tuple[CommandCall, ...]] = []
        self._skip_statement_ends()
        while self.peek() != closing:
            found.append(self._pipeline(first=not found))
            self._skip_statement_ends()
        if self._inside_end_clause:
            self.at += 1
            self._skip_statement_ends()
            if self.peek() != END:
                self.refuse("CanConvertOneClauseOnly", "nothing may follow the end block", "Write one block only.")
        return found

    def _open_end_clause(self) -> bool:
        found = re.compile(r"end\b[ \t\r\n]*\{", re.IGNORECASE).match(self.text, self.at)
        if found is None:
            return False
        self.at = found.end()
        return True

    def _pipeline(self, *, first: bool) -> tuple[CommandCall, ...]:
        self._refuse_prompt()
        if self.peek() == "|":
            fix = "End the line before with the '|': Windows PowerShell 5.1 reads no line that begins with one."
            self.refuse("EmptyPipeElement", "a pipeline cannot begin with '|'", fix)
        commands = [self._command(at_start=True, first=first)]
        while self.peek() == "|":
            self._refuse_chain("|")
            self.at += 1
            self.skip_blanks_and_newlines()
            if self.peek() in ("|", ";", "}", ")", END):
                self.refuse("EmptyPipeElement", "a command is missing here", "Write a command, or remove the '|'.")
            commands.append(self._command(at_start=False, first=False))
        if self.peek() == "&":
            self._refuse_chain("&")
            self.refuse(
                "BridgeBackground",
                "'&' would run the command in the background, and only in PowerShell 7",
                "Remove it.",
            )
        if self.peek() not in ("\r", "\n", ";", "}", END):
            self.refuse("UnexpectedToken", "this cannot stand here")
        if self.peek() == "}" and not self._inside_end_clause:
            self.refuse("UnexpectedToken", "no block is open that '}' could close", "Remove it.")
        return tuple(commands)

    def _refuse_chain(self, sign: str) -> None:
        if self.starts_with(sign * 2):
            self.refuse("CanOnlyConvertOnePipeline", f"commands cannot be chained with '{sign * 2}'", _ONE_COMMAND_FIX)

    def _refuse_prompt(self) -> None:
        found = _LOOSE_PROMPT.match(self.text, self.at)
        if found is not None and "\n" not in found[0] and "|" not in found[0] and ";" not in found[0]:
            detail = "this looks like a prompt that was pasted with the command"
            self.refuse("BridgePrompt", detail, "Remove the prompt and keep the command.", end=found.end())

    # -- commands -------------------------------------------------------------------------------------------------

    def _command(self, *, at_start: bool, first: bool) -> CommandCall:
        start = self.at
        invoked = self.peek() == "&"
        name = self._command_name(at_start=at_start, first=first)
        arguments: list[Argument] = []
        merge: dict[str, str] = {}
        dashes_are_text = False
        while True:
            self.skip_blanks()
            character = self.peek()
            if character == END or character in "\r\n;|&)}":
                break
            if self._merge(merge):
                continue
            argument = self._argument(dashes_are_text=dashes_are_text)
            dashes_are_text = dashes_are_text or argument.name == "--"
            arguments.append(argument)
            if self._verbatim_follows(argument):
                arguments.append(self._verbatim())
        self._refuse_several_merges(merge, start)
        return CommandCall(
            start, self.at, invoked, name, tuple(arguments), ("all",) if "all" in merge else tuple(merge)
        )

    def _refuse_several_merges(self, merge: dict[str, str], start: int) -> None:
        if len(merge) > 1 and "all" not in merge:
            detail = "PowerShell sends only the last of several redirections"
            self.refuse("BridgeRedirection", detail, "Write '*>&1', or redirect one stream.", start=start, end=self.at)

    def _command_name(self, *, at_start: bool, first: bool) -> Expression:
        start = self.at
        character = self.peek()
        if character == "&":
            return self._invoked_name()
        if self._at_dot_source():
            self.refuse("CantConvertWithDotSourcing", "a file cannot be dot-sourced there", "Write the command itself.")
        self._refuse_expression_start(at_start=at_start)
        if character == "]":
            self.at += 1
            return Text(start, self.at, value="]", bare=True)
        name = self._bare_word()
        raw = self.text[start : self.at].lower()
        if at_start:
            self._refuse_keyword(raw, start, first=first)
        return name

    def _at_dot_source(self) -> bool:
        following = self.peek(1)
        return self.peek() == "." and (forces_new_token(following) or following in "$" + SINGLE_QUOTES + DOUBLE_QUOTES)

    def _invoked_name(self) -> Expression:
        self._refuse_chain("&")
        start = self.at
        self.at += 1
        self.skip_blanks()
        if _REDIRECTION.match(self.text, self.at):
            self.refuse("RedirectionNotSupported", "a command cannot begin with a redirection")
        if forces_new_token(self.peek()) and self.peek() not in ("(", "{"):
            self.refuse("MissingExpression", "a command is missing after '&'", "Write its name.", start=start)
        if self.peek() == "{" or self._at_whole_number():
            detail = "only a command can be invoked, no script block"
            self.refuse("CantConvertWithScriptBlockInvocation", detail, _ONE_COMMAND_FIX)
        name = self._single_value(dashes_are_text=True)
        if isinstance(name, Splat):
            self.refuse(
                "CantConvertWithUndeclaredVariables", "a splat is no command", "Write its name.", start=name.start
            )
        return name

    def _refuse_dash_command(self) -> None:
        detail = "a line that begins with a dash is a command of its own: nothing joins it to the line before"
        fix = (
            "Join the lines: put a backtick at the very end of the line before, with nothing behind it, or write the"
            " command on one line."
        )
        self.refuse("BridgeDashCommand", detail, fix)

    def _refuse_expression_start(self, *, at_start: bool) -> None:
        character = self.peek()
        following = self.peek(1)
        if character != END and (character in "([{,\"'@+" or self.at_single_quote() or self.at_double_quote()):
            self._refuse_expression(at_start=at_start)
        if character == "!" and not is_identifier_start(following):
            self._refuse_expression(at_start=at_start)
        if character == "$" and (following == "(" or not forces_new_token(following) or following == "{"):
            self._refuse_expression(at_start=at_start)
        if self.at_dash():
            if not (is_identifier_start(following) or following == "?"):
                self._refuse_expression(at_start=at_start)
            self._refuse_dash_command()
        if self._at_whole_number():
            self._refuse_expression(at_start=at_start)
        redirection = _REDIRECTION.match(self.text, self.at)
        if redirection is not None:
            self.refuse("RedirectionNotSupported", "a command cannot begin with a redirection")
        if character != END and character in ")}":
            self.refuse("UnexpectedToken", f"nothing is open that '{character}' could close", "Remove it.")

    def _at_whole_number(self) -> bool:
        """A number that does not go on as a word (``5`` and ``1..3``, but not ``2Get``)."""
        found = match_number(self.text, self.at) if self.at_number() else None
        if found is None:
            return False
        following = self.text[found.end : found.end + 1]
        return following == END or not (is_identifier_start(following) or following in "$:?@[\\^`~")

    def _refuse_expression(self, *, at_start: bool) -> NoReturn:
        start = self.at
        if not at_start:
            self.refuse("ExpressionsMustBeFirstInPipeline", "a pipeline takes commands only", _ONE_COMMAND_FIX)
        if re.compile(r"\$[\w:]+\s*[-+*/%]?=(?!=)").match(self.text, start):
            fix = "Declare a parameter in param() and give its value when the script is run."
            self.refuse("CanOnlyConvertOnePipeline", "values cannot be assigned to variables", fix, start=start)
        self.expression()
        self.skip_blanks()
        fix = "Begin with the command's name; a quoted name needs '&' before it."
        if self.peek() not in (END, "\r", "\n", ";", "|"):
            self.refuse("UnexpectedToken", "this cannot follow a value at the start of a statement", fix)
        detail = "a statement must begin with a command, not with a value"
        self.refuse("CantConvertPipelineStartsWithExpression", detail, fix, start=start, end=self.at)

    def _refuse_keyword(self, word: str, start: int, *, first: bool) -> None:
        if word in _CLAUSES and first:
            self.refuse("CanConvertOneClauseOnly", f"'{word}' blocks cannot be sent", _ONE_COMMAND_FIX, start=start)
        if word == "param" and self._next_is_parenthesis():
            self.refuse("UnexpectedToken", "param() must come first", "Move it to the top.", start=start)
        if word in _STATEMENT_KEYWORDS:
            error_id = "" if self._next_is_parenthesis() else _STATEMENT_KEYWORDS[word]
            error_id = error_id or "CanOnlyConvertOnePipeline"
            self.refuse(error_id, f"a '{word}' statement cannot be sent", _ONE_COMMAND_FIX, start=start)
        if word.startswith(":") and re.compile(r"[ \t\r\n]*(?:foreach|for|while|do|switch)\b", re.I).match(
            self.text, self.at
        ):
            self.refuse("CanOnlyConvertOnePipeline", "a loop cannot be sent", _ONE_COMMAND_FIX, start=start)

    def _next_is_parenthesis(self) -> bool:
        return re.compile(r"\s*\(").match(self.text, self.at) is not None

    # -- arguments ------------------------------------------------------------------------------------------------

    def _merge(self, merge: dict[str, str]) -> bool:
        """Read a redirection; true where one was read. Only merging into output can be sent."""
        found = _REDIRECTION.match(self.text, self.at)
        if found is None:
            return False
        if found["to"] is None:
            if found[0] == "<":
                self.refuse("RedirectionNotSupported", "input cannot be redirected", "Remove it.")
            fix = "Remove it: output is recorded by the bridge."
            self.refuse("CanConvertOneOutputErrorRedir", "output cannot be redirected to a file there", fix)
        source = found["from"]
        if source is None:
            self.refuse("MissingFileSpecification", "a file name is missing after '>'", "Remove it.")
        if found["to"] != "&1" or source == "1":
            self.refuse("RedirectionNotSupported", "a stream can be merged into output only", "Write 2>&1 or *>&1.")
        stream = _MERGE[source]
        if stream in merge:
            self.refuse("StreamAlreadyRedirected", "this stream is redirected already", "Remove it.")
        merge[stream] = found[0]
        self.at = found.end()
        return True

    def _argument(self, *, dashes_are_text: bool) -> Argument:
        start = self.at
        if self.peek() == ",":
            self.refuse("MissingArgument", "a value is missing before the comma", "Write it, or remove the comma.")
        if self.at_dash() and not dashes_are_text:
            if self._at_double_dash():
                self.at += 2
                return Argument(start, self.at, "--", None)
            if (name := self._parameter_name()) is not None:
                return self._named_argument(start, name)
        value = self._value_or_array(dashes_are_text=dashes_are_text)
        return Argument(start, self.at, None, value)

    def _at_double_dash(self) -> bool:
        return self.at_dash() and self.peek(1) in ("-", "\u2013", "\u2014", "\u2015") and forces_new_token(self.peek(2))

    def _parameter_name(self) -> str | None:
        """The parameter at the cursor, colon included; None, without moving, where it is a bare word instead."""
        if not (is_identifier_start(self.peek(1)) or self.peek(1) == "?"):
            return None
        end = self.at + 1
        while end < len(self.text):
            character = self.text[end]
            if character == ":":
                end += 1
                break
            if character in "{}();,|&.[\r\n" or is_blank(character):
                break
            if character in SINGLE_QUOTES + DOUBLE_QUOTES:
                if "`" in self.text[self.at : end]:
                    self.refuse("TerminatorExpectedAtEndOfString", "a quote follows a backtick here", "Quote the word.")
                return None
            end += 1
        name = self.text[self.at + 1 : end]
        self.at = end
        return f"-{name}"

    def _named_argument(self, start: int, name: str) -> Argument:
        if not name.endswith(":"):
            if self.peek() == ",":
                self.refuse("MissingArgument", "a comma follows a parameter name", "Remove the comma.")
            self.skip_blanks()
            if self.peek() == ",":
                self.refuse("MissingArgument", "a comma follows a parameter name", "Remove the comma.")
            return Argument(start, self.at, name, None)
        end = self.at
        self.skip_blanks()
        if self.peek() in (END, "\r", "\n", ";", "|", "&", ")", "}") or self._at_double_dash():
            self.refuse(
                "ParameterRequiresArgument", f"'{name}' needs a value", "Write it behind the colon.", start=start
            )
        if self.peek() == ",":
            self.refuse("MissingArgument", "a value is missing before the comma", "Write it, or remove the comma.")
        if _REDIRECTION.match(self.text, self.at):
            self.refuse(
                "ParameterRequiresArgument", f"'{name}' needs a value", "Write it behind the colon.", start=start
            )
        if self.at > end:
            name += " "
        value = self._value_or_array(dashes_are_text=True)
        if isinstance(value, Text) and value.value == "--%":
            self.refuse("BridgeVerbatim", "'--%' cannot be a parameter's value", "Write it in parentheses: ('--%').")
        if isinstance(value, Splat):
            self.refuse("SplattingNotPermitted", "a splat cannot be a parameter's value", "Write $ in place of @.")
        return Argument(start, self.at, name, value)

    def _value_or_array(self, *, dashes_are_text: bool) -> Expression:
        first = self._single_value(dashes_are_text=dashes_are_text)
        if isinstance(first, Text) and first.value == "--%":
            return first
        items = [first]
        while True:
            before = self.at
            self.skip_blanks()
            if self.peek() != ",":
                self.at = before
                break
            self.at += 1
            self.skip_blanks_and_newlines()
            if self.peek() in (END, ",", ";", "|", "&", ")", "}") or self._at_double_dash():
                self.refuse("MissingExpression", "a value is missing after the comma", "Write it, or remove the comma.")
            if _REDIRECTION.match(self.text, self.at):
                self.refuse("MissingExpression", "a value is missing after the comma", "Write it, or remove the comma.")
            items.append(self._single_value(dashes_are_text=True))
        if len(items) == 1:
            return first
        for item in items:
            if isinstance(item, Splat):
                self.refuse("SplattingNotPermitted", "a splat cannot be part of a list", start=item.start, end=item.end)
        return Array(first.start, items[-1].end, tuple(items))

    def _single_value(self, *, dashes_are_text: bool) -> Expression:
        start = self.at
        character = self.peek()
        if self.at_dash() and dashes_are_text:
            name = self._parameter_name()
            if name is not None:
                return Text(start, self.at, value=self.text[start] + name[1:], bare=True)
        if self.at_number() and (number := self._number_argument()) is not None:
            return number
        if character == "]" or (character == "." and self.peek(1) != END and self.peek(1) in _ENDS_POINT):
            self.at += 1
            return Text(start, self.at, value=character, bare=True)
        if character in ("(", "@", "{") or self.at_single_quote() or self.at_double_quote():
            value = self.primary(command_mode=True)
            if isinstance(value, Member | Index | Splat):
                self._check_splat(value)
            return value
        if character == "$" and (variable := self._variable_argument()) is not None:
            return variable
        return self._bare_word()

    def _check_splat(self, value: Member | Index | Splat) -> None:
        target: Expression = value
        while isinstance(target, Member | Index):
            target = target.target
        if not isinstance(target, Splat):
            return
        if target is not value or not (forces_new_token(self.peek()) or self.peek() in (">", "<")):
            fix = "Splat a whole variable: @PSBoundParameters, @Name or @using:name."
            self.refuse("SplattingNotPermitted", "only a whole variable can be splatted", fix, start=target.start)

    def _number_argument(self) -> Number | None:
        found = match_number(self.text, self.at)
        if found is None or not forces_new_token(self.text[found.end : found.end + 1]):
            return None
        if found.value is None:
            self.refuse_number(self.at, found.end)
        start, self.at = self.at, found.end
        return Number(start, found.end, literal=found.value)

    def _variable_argument(self) -> Expression | None:
        """A variable or ``$( )`` with its members; None where the word only begins with one (``$x\\y``)."""
        if self.peek(1) == "(":
            return self.primary(command_mode=True)
        found = self.variable()
        if found is None:
            return None
        following = self.text[found.end : found.end + 1]
        if not (
            forces_new_token(following)
            or following in ".["
            or (following == "=" and self.peek(1) != "{")
            or self.text.startswith("::", found.end)
        ):
            return None
        return self.primary(command_mode=True)

    def _bare_word(self) -> Expression:
        start = self.at
        parts = Parts()
        while not forces_new_token(self.peek()):
            if self.at_single_quote():
                parts.add(self.single_quoted())
            elif self.at_double_quote():
                self._add_quoted(parts)
            elif self.peek() == "`" and self.peek(1) == END:
                parts.add("`")
                self.at += 1
            else:
                self.string_part(parts)
        if self.at == start:
            self.refuse("UnexpectedToken", "this cannot stand here")
        word = self.text[start : self.at]
        if (
            word[0] == ":"
            and is_identifier_start(word[1:2])
            and re.search(rf"[`${SINGLE_QUOTES}{DOUBLE_QUOTES}]", word)
        ):
            fix = "Put the whole word in quotes."
            self.refuse("BridgeLabel", "PowerShell reads this as a label", fix, start=start, end=self.at)
        return parts.expression(start, self.at, bare=True)

    def _add_quoted(self, parts: Parts) -> None:
        value = self.double_quoted()
        if isinstance(value, Expandable):
            raw = self.text[value.start + 1 : value.end - 1]
            for part in value.parts:
                if isinstance(part, str):
                    parts.add(part)
                else:
                    parts.add_value(part, raw and self.text[part.start : part.end])
        elif isinstance(value, Text):
            parts.add(value.value)

    # -- everything behind --% ------------------------------------------------------------------------------------

    @staticmethod
    def _verbatim_follows(argument: Argument) -> bool:
        """Whether the argument is ``--%``, however it is quoted or escaped."""
        return argument.name is None and isinstance(argument.value, Text) and argument.value.value == "--%"

    def _verbatim(self) -> Argument:
        """The rest of the line as it stands, up to a ``|`` outside quotes (about_Parsing, stop-parsing token)."""
        while is_blank(self.peek()):
            self.at += 1
        start = self.at
        quoted = False
        while self.peek() != END and not is_newline(self.peek()):
            if self.peek() == '"':
                quoted = not quoted
            elif not quoted and (self.peek() == "|" or self.starts_with("&&")):
                break
            self.at += 1
        text = self.text[start : self.at]
        return Argument(start, self.at, None, Text(start, self.at, value=text))
