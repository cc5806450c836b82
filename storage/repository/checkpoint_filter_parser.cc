// The parser of checkpoint_filter.h: recursive descent over the text itself, no deeper than kMaxFilterDepth
// parentheses.
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/error.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "storage/repository/checkpoint_filter.h"

namespace sconce::repository {
namespace {

constexpr absl::string_view kFields =
    "version, epoch, step, create_time, state, kind, pinned, metrics.NAME, labels.KEY, and with a colon metrics:NAME, "
    "labels:KEY and aliases:NAME";
constexpr absl::string_view kOrders = "version, create_time, epoch, step or metrics.NAME, then desc or nothing";

struct NamedField {
  absl::string_view name;
  FilterField field;
};
constexpr NamedField kPlainFields[] = {
    {"version", FilterField::kVersion},
    {"epoch", FilterField::kEpoch},
    {"step", FilterField::kTrainStep},
    {"state", FilterField::kState},
    {"kind", FilterField::kKind},
    {"pinned", FilterField::kPinned},
    {"create_time", FilterField::kCreateTime},
};
// Those whose parts are named.
constexpr NamedField kMapFields[] = {
    {"metrics", FilterField::kMetric}, {"labels", FilterField::kLabel}, {"aliases", FilterField::kAlias}};

// The values of fields that have only two, as Comparison.integer.
struct Choice {
  FilterField field;
  absl::string_view values[2];
};
constexpr Choice kChoices[] = {{FilterField::kState, {"COMMITTED", "QUARANTINED"}},
                               {FilterField::kKind, {"STATE", "OPAQUE"}},
                               {FilterField::kPinned, {"false", "true"}}};

const Choice* ChoiceOf(FilterField field) {
  for (const Choice& choice : kChoices) {
    if (choice.field == field) return &choice;
  }
  return nullptr;
}

// The pieces that filters and orders are made of.
class Scanner {
 public:
  explicit Scanner(absl::string_view text) : text_(text) {}

  size_t position() const { return position_; }
  void SkipBlanks() {
    while (!AtEnd() && absl::ascii_isspace(static_cast<unsigned char>(text_[position_]))) ++position_;
  }
  bool AtEnd() const { return position_ == text_.size(); }
  bool Next(absl::string_view what) const { return text_.substr(position_, what.size()) == what; }
  bool Take(absl::string_view what) {
    if (!Next(what)) return false;
    position_ += what.size();
    return true;
  }
  bool NextIsQuote() const { return Next("\"") || Next("'"); }

  // What may stand without quotes; "" when something else comes. In a value a colon is no operator.
  absl::string_view Word(bool in_value = false) {
    const size_t begin = position_;
    while (!AtEnd() && IsPlain(text_[position_], in_value)) ++position_;
    return text_.substr(begin, position_ - begin);
  }
  // nullopt when the text ends before the quotes do.
  std::optional<std::string> QuotedText() {
    const char quote = text_[position_++];
    std::string content;
    for (; !AtEnd() && text_[position_] != quote; ++position_) {
      if (text_[position_] == '\\' && position_ + 1 < text_.size()) ++position_;
      content.push_back(text_[position_]);
    }
    if (AtEnd()) return std::nullopt;
    ++position_;
    return content;
  }

 private:
  static bool IsPlain(char c, bool in_value) {
    if (absl::ascii_isspace(static_cast<unsigned char>(c))) return false;
    if (c == ':') return in_value;
    return absl::string_view("()=!<>,\"'").find(c) == absl::string_view::npos;
  }

  absl::string_view text_;
  size_t position_ = 0;
};

// A field as it is written.
struct FieldText {
  std::string head;                 // "metrics"
  std::optional<std::string> name;  // what follows the dot; nullopt without one
  bool whole = true;                // false: a quote of the name is not closed
};

FieldText ReadField(Scanner& scanner) {
  const absl::string_view word = scanner.Word();
  const size_t dot = word.find('.');
  FieldText field;
  field.head = std::string(word.substr(0, dot));
  if (dot == absl::string_view::npos) return field;
  field.name = std::string(word.substr(dot + 1));
  if (field.name->empty() && scanner.NextIsQuote()) {
    field.name = scanner.QuotedText();
    field.whole = field.name.has_value();
  }
  return field;
}

template <size_t N>
std::optional<FilterField> Find(const NamedField (&fields)[N], absl::string_view name) {
  for (const NamedField& field : fields) {
    if (field.name == name) return field.field;
  }
  return std::nullopt;
}

class FilterParser {
 public:
  explicit FilterParser(absl::string_view text) : scanner_(text) {}

  absl::StatusOr<FilterNode> Parse() {
    scanner_.SkipBlanks();
    if (scanner_.AtEnd()) return FilterNode{FilterNode::Kind::kAnd, {}, {}};
    SCONCE_ASSIGN_OR_RETURN(FilterNode filter, ParseAnd());
    if (!scanner_.AtEnd()) return Invalid(scanner_.position(), "a parenthesis is closed that was not opened");
    return filter;
  }

 private:
  static absl::Status Invalid(size_t position, absl::string_view why) {
    return MakeError(Reason::FILTER_INVALID, absl::StrCat("filter, at byte ", position + 1, ": ", why),
                     {{"field", "filter"}, {"position", absl::StrCat(position + 1)}});
  }

  // filter: factor { AND factor }, up to the end or a closing parenthesis.
  absl::StatusOr<FilterNode> ParseAnd() {
    FilterNode all{FilterNode::Kind::kAnd, {}, {}};
    while (true) {
      SCONCE_ASSIGN_OR_RETURN(FilterNode factor, ParseOr());
      all.children.push_back(std::move(factor));
      if (scanner_.AtEnd() || scanner_.Next(")")) break;
      const size_t position = scanner_.position();
      if (scanner_.Word() != "AND") {
        return Invalid(position,
                       "expected AND, OR, a closing parenthesis or the end (values with blanks or operators in "
                       "them are quoted)");
      }
    }
    return all.children.size() == 1 ? std::move(all.children.front()) : std::move(all);
  }

  // factor: term { OR term }
  absl::StatusOr<FilterNode> ParseOr() {
    FilterNode any{FilterNode::Kind::kOr, {}, {}};
    while (true) {
      SCONCE_ASSIGN_OR_RETURN(FilterNode term, ParseTerm());
      any.children.push_back(std::move(term));
      scanner_.SkipBlanks();
      Scanner after = scanner_;
      if (after.Word() != "OR") break;
      scanner_ = after;
    }
    return any.children.size() == 1 ? std::move(any.children.front()) : std::move(any);
  }

  // term: [ NOT | - ] ( comparison | "(" filter ")" )
  absl::StatusOr<FilterNode> ParseTerm() {
    scanner_.SkipBlanks();
    bool negated = scanner_.Take("-");
    if (Scanner after = scanner_; !negated && after.Word() == "NOT") {
      negated = true;
      scanner_ = after;
      scanner_.SkipBlanks();
    }
    SCONCE_ASSIGN_OR_RETURN(FilterNode term, scanner_.Next("(") ? ParseParentheses() : ParseComparison());
    if (!negated) return term;
    FilterNode node{FilterNode::Kind::kNot, {}, {}};
    node.children.push_back(std::move(term));
    return node;
  }

  absl::StatusOr<FilterNode> ParseParentheses() {
    const size_t position = scanner_.position();
    scanner_.Take("(");
    if (++depth_ > kMaxFilterDepth) {
      return Invalid(position, absl::StrCat("more than ", kMaxFilterDepth, " parentheses inside each other"));
    }
    SCONCE_ASSIGN_OR_RETURN(FilterNode inner, ParseAnd());
    if (!scanner_.Take(")")) return Invalid(position, "this parenthesis is not closed");
    --depth_;
    return inner;
  }

  absl::StatusOr<FilterNode> ParseComparison() {
    const size_t position = scanner_.position();
    if (++comparisons_ > kMaxFilterComparisons) {
      return Invalid(position, absl::StrCat("more than ", kMaxFilterComparisons, " comparisons"));
    }
    const FieldText field = ReadField(scanner_);
    if (!field.whole) return Invalid(position, "a quote is not closed");
    if (field.head.empty() && !field.name) {
      return Invalid(position, absl::StrCat("expected a comparison, like step >= 1000; the fields are ", kFields));
    }
    FilterNode node;
    Comparison& c = node.comparison;
    const std::optional<FilterField> map = Find(kMapFields, field.head);
    const std::optional<FilterField> plain = field.name ? std::nullopt : Find(kPlainFields, field.head);
    if (!map && !plain) {
      return Invalid(
          position,
          absl::StrCat("unknown field ", Quoted(field.name ? absl::StrCat(field.head, ".", *field.name) : field.head),
                       "; the fields are ", kFields));
    }
    c.field = map ? *map : *plain;
    if (map && field.name && *map == FilterField::kAlias) {
      return Invalid(position, absl::StrCat("aliases have no parts; write aliases:", *field.name));
    }
    if (field.name) c.name = *field.name;
    SCONCE_ASSIGN_OR_RETURN(c.comparator, ParseComparator(field));
    const bool named_by_value = map && !field.name;
    SCONCE_RETURN_IF_ERROR(named_by_value ? ParseMember(field, c) : ParseValue(c));
    return node;
  }

  absl::StatusOr<Comparator> ParseComparator(const FieldText& field) {
    constexpr std::pair<absl::string_view, Comparator> kComparators[] = {
        {"!=", Comparator::kNotEqual}, {"<=", Comparator::kLessOrEqual},
        {"<", Comparator::kLess},      {">=", Comparator::kGreaterOrEqual},
        {">", Comparator::kGreater},   {"=", Comparator::kEqual},
        {":", Comparator::kHas}};
    scanner_.SkipBlanks();
    for (const auto& [text, comparator] : kComparators) {
      if (scanner_.Take(text)) return comparator;
    }
    return Invalid(scanner_.position(), absl::StrCat("expected one of = != < <= > >= : after ", Quoted(field.head)));
  }

  // metrics:NAME
  absl::Status ParseMember(const FieldText& field, Comparison& c) {
    const size_t position = scanner_.position();
    if (c.comparator != Comparator::kHas) {
      const absl::string_view head = field.head;
      return Invalid(
          position - 1,
          absl::StrCat(head, " takes only a colon: ", head, ":NAME",
                       c.field == FilterField::kAlias ? "" : absl::StrCat("; one of them is ", head, ".NAME")));
    }
    SCONCE_ASSIGN_OR_RETURN(const ValueText value, ReadValue());
    c.name = value.text;
    return absl::OkStatus();
  }

  struct ValueText {
    size_t position = 0;
    std::string text;
    bool quoted = false;
  };
  absl::StatusOr<ValueText> ReadValue() {
    scanner_.SkipBlanks();
    ValueText value;
    value.position = scanner_.position();
    value.quoted = scanner_.NextIsQuote();
    if (!value.quoted) {
      value.text = std::string(scanner_.Word(/*in_value=*/true));
      if (value.text.empty()) return Invalid(value.position, "expected a value; text may be quoted");
      return value;
    }
    const std::optional<std::string> text = scanner_.QuotedText();
    if (!text) return Invalid(value.position, "this quote is not closed");
    value.text = *text;
    return value;
  }

  absl::Status ParseValue(Comparison& c) {
    const size_t comparator_end = scanner_.position();
    SCONCE_ASSIGN_OR_RETURN(const ValueText value, ReadValue());
    if (c.comparator == Comparator::kHas) {
      if (!value.quoted && value.text == "*") return absl::OkStatus();
      c.comparator = Comparator::kEqual;
    }
    const auto invalid = [&](absl::string_view wanted) {
      return Invalid(value.position, absl::StrCat(Quoted(value.text), " is not ", wanted));
    };
    if (const Choice* choice = ChoiceOf(c.field)) {
      if (c.comparator != Comparator::kEqual && c.comparator != Comparator::kNotEqual) {
        return Invalid(comparator_end - 1, "this field has no order; it takes = and !=");
      }
      c.integer = value.text == choice->values[1] ? 1 : 0;
      if (value.text == choice->values[c.integer]) return absl::OkStatus();
      return invalid(absl::StrCat(choice->values[0], " or ", choice->values[1]));
    }
    if (c.field == FilterField::kMetric) {
      if (absl::SimpleAtod(value.text, &c.number) && !std::isnan(c.number)) return absl::OkStatus();
      return invalid("a number (and NaN equals nothing)");
    }
    if (c.field == FilterField::kCreateTime) {
      absl::Time time;
      std::string error;
      if (!absl::ParseTime(absl::RFC3339_full, value.text, &time, &error)) {
        return invalid("a time like 2026-01-01T00:00:00Z");
      }
      c.integer = absl::ToUnixNanos(time);
      return absl::OkStatus();
    }
    if (c.field == FilterField::kLabel) {
      c.text = value.text;
      return absl::OkStatus();
    }
    return absl::SimpleAtoi(value.text, &c.integer) ? absl::OkStatus() : invalid("a whole number");
  }

  Scanner scanner_;
  int depth_ = 0;
  int comparisons_ = 0;
};

}  // namespace

absl::StatusOr<FilterNode> ParseCheckpointFilter(absl::string_view text) {
  if (text.size() > kMaxFilterBytes) {
    return MakeError(Reason::FILTER_INVALID,
                     absl::StrCat("filter has ", text.size(), " bytes; at most ", kMaxFilterBytes, " are allowed"),
                     {{"field", "filter"}, {"position", absl::StrCat(kMaxFilterBytes + 1)}});
  }
  return FilterParser(text).Parse();
}

absl::StatusOr<CheckpointOrder> ParseCheckpointOrder(absl::string_view text) {
  const auto invalid = [&] {
    return MakeError(Reason::ARGUMENT_INVALID,
                     absl::StrCat("order_by is ", Quoted(text), "; it must be ", kOrders, ", one field alone"),
                     {{"field", "order_by"}});
  };
  Scanner scanner(text);
  scanner.SkipBlanks();
  if (scanner.AtEnd()) return CheckpointOrder();
  const FieldText field = ReadField(scanner);
  scanner.SkipBlanks();
  CheckpointOrder order;
  order.descending = !scanner.AtEnd();
  if (order.descending && scanner.Word() != "desc") return invalid();
  scanner.SkipBlanks();
  if (!field.whole || !scanner.AtEnd()) return invalid();
  const std::optional<FilterField> plain = Find(kPlainFields, field.head);
  if (field.head == "metrics" && field.name && !field.name->empty()) {
    order.field = FilterField::kMetric;
    order.metric = *field.name;
  } else if (plain && !field.name && ChoiceOf(*plain) == nullptr) {
    order.field = *plain;
  } else {
    return invalid();
  }
  return order;
}

}  // namespace sconce::repository
