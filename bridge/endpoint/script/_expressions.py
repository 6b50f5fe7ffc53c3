"""Reads expressions: strings with values inside, arrays, tables, casts, members and operators."""

from __future__ import annotations

import re
from typing import NoReturn

from bridge.endpoint.script._characters import (
    DASHES,
    DOUBLE_QUOTES,
    END,
    SINGLE_QUOTES,
    is_blank,
    is_identifier_start,
    is_newline,
)
from bridge.endpoint.script._lexer import Lexer
from bridge.endpoint.script._numbers import match_number
from bridge.endpoint.script._syntax import (
    Array,
    Binary,
    Cast,
    Expandable,
    Expression,
    Index,
    Member,
    Number,
    Paren,
    Splat,
    Statements,
    Table,
    Text,
    TypeName,
    Unary,
    Variable,
)

_DEEPEST = 60
_PRECEDENCE = {
    "-and": 1,
    "-or": 1,
    "-xor": 1,
    "-eq": 5,
    "-ne": 5,
    "-lt": 5,
    "-le": 5,
    "-gt": 5,
    "-ge": 5,
    "-join": 5,
    "+": 9,
    "-": 9,
    "*": 10,
    "/": 10,
    "%": 10,
    "-f": 12,
    "..": 13,
}
_TYPE_NAME = re.compile(r"\[[ \t]*([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)[ \t]*(\[[ \t]*\])?[ \t]*\]")
_AFTER_NUMBER = frozenset("{}();,|&\r\n!%*+-./<=>]\u2013\u2014\u2015")
_DATE_FIX = "Compute the value before the run and give it through a parameter, for example [datetime]$FromDate."


class ExpressionReader(Lexer):
    """Reads one expression at a time; ``command_mode`` is how PowerShell reads the arguments of a command."""

    _depth = 0

    # -- operators ------------------------------------------------------------------------------------------------

    def expression(self, lowest: int = 0, *, commas: bool = True) -> Expression:
        """The expression at the cursor, with every operator that binds at least as tight as ``lowest``."""
        self._enter()
        if not commas and self.peek() == ",":
            self.refuse("MissingExpressionAfterToken", "a value is missing before the comma")
        left = self._array(commas=commas)
        while True:
            self.skip_blanks()
            start = self.at
            operator = self._operator()
            if operator is None:
                break
            if _PRECEDENCE[operator] < lowest:
                self.at = start
                break
            self.skip_blanks_and_newlines()
            right = self.expression(_PRECEDENCE[operator] + 1, commas=commas)
            left = Binary(left.start, right.end, operator, left, right)
        self._depth -= 1
        return left

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            self.refuse("BridgeTooDeep", f"expressions are nested more than {_DEEPEST} deep")

    def _operator(self) -> str | None:
        character = self.peek()
        if character == END or is_newline(character) or character in ")]};,|":
            return None
        start = self.at
        if character in DASHES and (name := self._named_operator()):
            return name
        if self.starts_with(".."):
            self.at += 2
            return ".."
        sign = "-" if character in DASHES else character
        doubled = self.peek(1) != END and (self.peek(1) == "=" or (self.peek(1) == character and character in "+-"))
        if sign in ("+", "-", "*", "/", "%") and not doubled:
            self.at += 1
            return sign
        if character in "><":
            self.refuse("CanConvertOneOutputErrorRedir", "an expression inside an argument cannot be redirected")
        if character == "=" or doubled:
            self.refuse("BridgeAssignment", "values cannot be assigned in a PEP script", start=start)
        return self.refuse("UnexpectedToken", "this cannot follow an expression here", start=start)

    def _named_operator(self) -> str | None:
        """``-join`` and the like, as ``-join``; refuses one that the bridge does not evaluate."""
        start = self.at
        self.at += 1
        word = self.identifier().lower()
        if not word:
            self.at = start
            return None
        if f"-{word}" in _PRECEDENCE:
            return f"-{word}"
        return self.refuse("BridgeOperator", "the bridge does not evaluate this operator", _DATE_FIX, start=start)

    def _array(self, *, commas: bool) -> Expression:
        first = self._unary()
        if not commas:
            return first
        items = [first]
        while True:
            self.skip_blanks()
            if self.peek() != ",":
                break
            self.at += 1
            self.skip_blanks_and_newlines()
            items.append(self._unary())
        return first if len(items) == 1 else Array(first.start, items[-1].end, tuple(items))

    def _unary(self) -> Expression:
        self._enter()
        try:
            return self._unary_operand()
        finally:
            self._depth -= 1

    def _unary_operand(self) -> Expression:
        self.skip_blanks()
        start = self.at
        character = self.peek()
        if character == ",":
            self.at += 1
            self.skip_blanks_and_newlines()
            operand = self._unary()
            return Array(start, operand.end, (operand,))
        if character == "!":
            self.at += 1
            operand = self._unary()
            return Unary(start, operand.end, "-not", operand)
        if character == "+" or (character != END and character in DASHES):
            return self._signed()
        if character == "[":
            return self._cast_or_static()
        return self.primary(command_mode=False)

    def _signed(self) -> Expression:
        start = self.at
        plus = self.peek() == "+"
        following = self.peek(1)
        if following != END and (following == "+" or following in DASHES) and (following == "+") == plus:
            self.refuse("OperatorRequiresVariableOrProperty", "values cannot be changed in a PEP script")
        self.at += 1
        word = "" if plus else self.identifier().lower()
        if word == "not":
            operator = "-not"
        elif word:
            self.refuse("BridgeOperator", "the bridge does not evaluate this operator", _DATE_FIX, start=start)
        else:
            operator = "+" if plus else "-"
        self.skip_blanks_and_newlines()
        operand = self._unary()
        return Unary(start, operand.end, operator, operand)

    def _cast_or_static(self) -> Expression:
        name = self.type_name()
        if self.starts_with("::") or self.peek() == ".":
            return self._members(name, command_mode=False)
        self.skip_blanks()
        if self.peek() == END or is_newline(self.peek()) or self.peek() in ")]};,|&":
            self.refuse("BridgeTypeValue", "a type is not a value that can be sent", start=name.start, end=self.at)
        operand = self._unary()
        return Cast(name.start, operand.end, name, operand)

    def type_name(self) -> TypeName:
        """``[name]`` or ``[name[]]`` at the cursor."""
        found = _TYPE_NAME.match(self.text, self.at)
        if found is None:
            self.refuse("BridgeTypeName", "this is not a type that the bridge knows")
        start = self.at
        self.at = found.end()
        return TypeName(start, self.at, found[1] + ("[]" if found[2] else ""))

    # -- primaries ------------------------------------------------------------------------------------------------

    def primary(self, *, command_mode: bool) -> Expression:
        """A value with the members and indexes behind it."""
        return self._members(self._value(command_mode=command_mode), command_mode=command_mode)

    def _value(self, *, command_mode: bool) -> Expression:
        start = self.at
        character = self.peek()
        if self.at_single_quote():
            return Text(start, self.at, value=self.single_quoted())
        if self.at_double_quote():
            return self.double_quoted()
        if character == "$":
            return self._dollar()
        if character == "(":
            return self._paren()
        if character == "@":
            return self._at_sign()
        if character == "{":
            fix = "A PEP script cannot pass script blocks: select and filter on the client."
            closed = "}" in self.text[start:]
            error_id = "CantConvertWithScriptBlocks" if closed else "MissingEndCurlyBrace"
            self.refuse(error_id, "a script block cannot be sent", fix)
        if not command_mode and self.at_number():
            return self._number()
        if character == END or is_newline(character) or character in ")]};,|&":
            self.refuse("MissingExpression", "a value is missing here")
        return self.refuse(
            "CantConvertWithCommandInvocations", "a command inside an argument cannot be sent", _DATE_FIX
        )

    def _dollar(self) -> Expression:
        start = self.at
        if self.peek(1) == "(":
            self.at += 2
            return self._statements(start, always_array=False)
        found = self.variable()
        if found is None:
            self.refuse("UnexpectedToken", "a variable name is missing after '$'")
        self.at = found.end
        return Variable(start, found.end, found.name)

    def _paren(self) -> Expression:
        start = self.at
        self._enter()
        self.at += 1
        self.skip_blanks_and_newlines()
        if self.peek() in (")", END):
            self.refuse("ExpectedExpression", "the parentheses are empty", start=start, end=self.at + 1)
        inner = self.expression()
        self.skip_blanks_and_newlines()
        self._expect(")", "MissingEndParenthesisInExpression", start)
        self._depth -= 1
        return Paren(start, self.at, inner)

    def _expect(self, closing: str, error_id: str, start: int) -> None:
        if self.peek() == "|":
            self.refuse("CantConvertPipelineStartsWithExpression", "a pipeline inside an argument cannot be sent")
        if self.peek() != closing:
            self.refuse(error_id, f"a '{closing}' is missing here", start=self.at if self.peek() != END else start)
        self.at += 1

    def _at_sign(self) -> Expression:
        start = self.at
        following = self.peek(1)
        if following == "(":
            self.at += 2
            return self._statements(start, always_array=True)
        if following == "{":
            return self._table()
        if following != END and following in SINGLE_QUOTES + DOUBLE_QUOTES:
            return self.here_string()
        if is_identifier_start(following):
            found = self.variable()
            if found is not None:
                self.at = found.end
                return Splat(start, found.end, found.name)
        return self.refuse("UnrecognizedToken", "'@' begins nothing here")

    def _statements(self, start: int, *, always_array: bool) -> Statements:
        self._enter()
        items: list[Expression] = []
        while True:
            self._skip_separators()
            if self.peek() == ")":
                break
            items.append(self.expression())
            self.skip_blanks()
            if self.peek() == ")":
                break
            if not (is_newline(self.peek()) or self.peek() == ";"):
                error_id = (
                    "MissingEndParenthesisInExpression" if always_array else "MissingEndParenthesisInSubexpression"
                )
                self._expect(")", error_id, start)
        self.at += 1
        self._depth -= 1
        return Statements(start, self.at, tuple(items), always_array)

    def _skip_separators(self) -> None:
        self.skip_blanks_and_newlines()
        while self.peek() == ";":
            self.at += 1
            self.skip_blanks_and_newlines()

    def _table(self) -> Table:
        start = self.at
        self._enter()
        self.at += 2
        self.skip_blanks_and_newlines()
        pairs: list[tuple[Expression, Expression]] = []
        while self.peek() != "}":
            key = self._table_key()
            self.skip_blanks()
            if self.peek() != "=":
                self.refuse("MissingEqualsInHashLiteral", "a '=' is missing after the key")
            self.at += 1
            self.skip_blanks_and_newlines()
            if self.peek() in ("}", ";", END):
                self.refuse("MissingStatementInHashLiteral", "the value is missing after the '='")
            pairs.append((key, self.expression()))
            self.skip_blanks()
            if self.peek() not in ("}", ";", "\r", "\n"):
                self.refuse("MissingEndCurlyBrace", "a '}' is missing here")
            self._skip_separators()
        self.at += 1
        self._depth -= 1
        return Table(start, self.at, tuple(pairs))

    def _table_key(self) -> Expression:
        start = self.at
        name = self.identifier()
        if name:
            return Text(start, self.at, value=name)
        if self.peek() == "." or self.peek() in (END, ";", "="):
            self.refuse("MissingEndCurlyBrace", "a key is missing here")
        return self.primary(command_mode=False)

    def _number(self) -> Number:
        start = self.at
        found = match_number(self.text, start)
        end = found.end if found else start + 1
        following = self.text[end : end + 1]
        if found is None or not (following in _AFTER_NUMBER or following == "" or is_blank(following)):
            self.refuse("UnexpectedToken", "this is not a number", start=start)
        if found.value is None:
            self.refuse_number(start, end)
        self.at = end
        return Number(start, end, literal=found.value)

    def refuse_number(self, start: int, end: int) -> NoReturn:
        """Refuse a number that the two versions read differently."""
        detail = "Windows PowerShell 5.1 and PowerShell 7 do not read this number alike"
        self.refuse("BridgeVersionDifference", detail, "Write plain digits, or quote it as text.", start=start, end=end)

    # -- members --------------------------------------------------------------------------------------------------

    def _members(self, target: Expression, *, command_mode: bool) -> Expression:
        while True:
            character = self.peek()
            following = self.peek(1)
            if character == "?" and following in (".", "["):
                self.refuse("BridgeVersionDifference", "Windows PowerShell 5.1 has no '?.' and '?['")
            if character == "[" and not isinstance(target, TypeName):
                target = self._index(target)
            elif self.starts_with("::"):
                target = self._member(target, width=2)
            elif character == "." and following != "." and not self._point_ends_value(following, command_mode):
                target = self._member(target, width=1)
            else:
                return target

    @staticmethod
    def _point_ends_value(following: str, command_mode: bool) -> bool:
        return command_mode and (following == END or is_blank(following) or is_newline(following))

    def _index(self, target: Expression) -> Index:
        start = self.at
        self._enter()
        self.at += 1
        self.skip_blanks_and_newlines()
        if self.peek() == "]":
            self.refuse("MissingArrayIndexExpression", "the index is missing", start=start)
        index = self.expression()
        self.skip_blanks_and_newlines()
        self._expect("]", "MissingEndSquareBracket", start)
        self._depth -= 1
        return Index(target.start, self.at, target, index)

    def _member(self, target: Expression, *, width: int) -> Member:
        start = self.at
        self.at += width
        name = self._member_name()
        if not name:
            self.refuse("MissingPropertyName", "a name is missing here", start=start)
        static = width == 2
        if self.peek() != "(":
            return Member(target.start, self.at, target, name, static)
        arguments = self._call_arguments()
        return Member(target.start, self.at, target, name, static, arguments)

    def _member_name(self) -> str:
        if self.at_single_quote():
            return self.single_quoted()
        if not self.at_double_quote():
            return self.identifier()
        quoted = self.double_quoted()
        return quoted.value if isinstance(quoted, Text) else ""

    def _call_arguments(self) -> tuple[Expression, ...]:
        start = self.at
        self._enter()
        self.at += 1
        self.skip_blanks_and_newlines()
        found: list[Expression] = []
        while self.peek() != ")":
            found.append(self.expression(commas=False))
            self.skip_blanks_and_newlines()
            if self.peek() != ",":
                break
            self.at += 1
            self.skip_blanks_and_newlines()
            if self.peek() == ")":
                self.refuse("MissingExpressionAfterToken", "a value is missing after the comma")
        self._expect(")", "MissingEndParenthesisInMethodCall", start)
        self._depth -= 1
        return tuple(found)

    # -- strings with values inside -------------------------------------------------------------------------------

    def double_quoted(self) -> Expression:
        """The double-quoted string at the cursor."""
        start = self.at
        self.at += 1
        parts = Parts()
        while True:
            if self.peek() == END:
                self.refuse("TerminatorExpectedAtEndOfString", "the string has no closing quote", start=start)
            if self.at_double_quote():
                self.at += 1
                if not self.at_double_quote():
                    return parts.expression(start, self.at)
                parts.add(self.peek())
                self.at += 1
            else:
                self.string_part(parts)

    def string_part(self, parts: Parts) -> None:
        """One escape, value or character inside a string or a bare word."""
        character = self.peek()
        if character == "`":
            parts.add(self.escape())
        elif character == "$" and (value := self._value_in_string()) is not None:
            parts.add_value(value, self.text[value.start : value.end])
        else:
            parts.add(character)
            self.at += 1

    def _value_in_string(self) -> Expression | None:
        if self.peek(1) == "(":
            return self._dollar()
        if self.peek(1) == ":" and self.peek(2) == ":":
            return None
        return self._dollar() if self.variable() is not None else None

    def here_string(self) -> Expression:
        """The here-string at the cursor: it ends with the quote and ``@`` at the start of a line."""
        start = self.at
        quotes = SINGLE_QUOTES if self.peek(1) in SINGLE_QUOTES else DOUBLE_QUOTES
        self.at += 2
        while is_blank(self.peek()):
            self.at += 1
        if not is_newline(self.peek()):
            detail = "nothing may follow the opening of a here-string on its line"
            self.refuse("UnexpectedCharactersAfterHereStringHeader", detail, start=start)
        closing = re.compile(rf"(?:\r\n|\r|\n)[{quotes}]@").search(self.text, self.at)
        first = self.at
        self.at += 2 if self.starts_with("\r\n") else 1
        if quotes == SINGLE_QUOTES:
            if closing is None:
                self._refuse_here_string(start)
            body = self.text[self.at : closing.start()] if closing.start() > first else ""
            self.at = closing.end()
            return Text(start, self.at, value=body)
        return self._expandable_here_string(start, first)

    def _expandable_here_string(self, start: int, first: int) -> Expression:
        parts = Parts()
        self.at = first
        ending = re.compile(rf"(?:\r\n|\r|\n)[{DOUBLE_QUOTES}]@")
        found = ending.match(self.text, self.at)
        if found is None:
            self.at += 2 if self.starts_with("\r\n") else 1
            while (found := ending.match(self.text, self.at)) is None:
                if self.peek() == END:
                    self._refuse_here_string(start)
                self.string_part(parts)
        self.at = found.end()
        return parts.expression(start, self.at)

    def _refuse_here_string(self, start: int) -> NoReturn:
        detail = "the here-string has no closing quote with '@' at the very start of a line"
        self.refuse("TerminatorExpectedAtEndOfString", detail, start=start)


class Parts:
    """Collects a string: runs of characters, and values between them."""

    def __init__(self) -> None:
        self._parts: list[str | Expression] = []
        self._run: list[str] = []
        self._raw: list[str] = []

    def add(self, text: str) -> None:
        self._raw.append(text)
        self._run.append(text)

    def add_value(self, value: Expression, raw: str) -> None:
        self._raw.append(raw)
        self._end_run()
        self._parts.append(value)

    def _end_run(self) -> None:
        if self._run:
            self._parts.append("".join(self._run))
            self._run = []

    def expression(self, start: int, end: int, *, bare: bool = False) -> Expression:
        """A constant string, or one to expand."""
        self._end_run()
        if all(isinstance(part, str) for part in self._parts):
            return Text(start, end, value="".join(self._raw), bare=bare)
        return Expandable(start, end, tuple(self._parts), "".join(self._raw))
