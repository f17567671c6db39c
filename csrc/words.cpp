// Words of Python strings as hashes, by the rules of rlseq2seq/rewards/words.py; csrc/word_hashes.h tells the hash.
#include "words.h"

#include "word_hashes.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

namespace py = pybind11;

namespace rlseq2seq {
namespace {

enum class Rule { kSurface, kCased, kRouge };
enum class Kind { kLetter, kMark, kSpace };  // part of a word, a word by itself, neither

Rule rule_named(const std::string& name) {
  if (name == "surface") return Rule::kSurface;
  if (name == "cased") return Rule::kCased;
  if (name == "rouge") return Rule::kRouge;
  throw py::value_error("rule must be surface, cased or rouge, not " + name + ".");
}

// As `re` classifies characters for [^\W_]+|\S and for [a-z0-9]+.
Kind kind_of(Py_UCS4 c, Rule rule) {
  if (rule == Rule::kRouge) return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? Kind::kLetter : Kind::kSpace;
  if (Py_UNICODE_ISALNUM(c)) return Kind::kLetter;
  return Py_UNICODE_ISSPACE(c) ? Kind::kSpace : Kind::kMark;
}

// The finalizer of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators").
uint64_t mixed(Py_UCS4 c) {
  uint64_t z = (c + uint64_t{1}) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// A string's characters, lower-cased unless the rule is kCased. Python lower-cases a whole string; only the sigma at the
// end of a word depends on what is around it, and counts as any other sigma, so pieces lower-cased one by one give what
// the whole would give.
class Characters {
 public:
  Characters(const py::str& text, Rule rule)
      : lowered_(rule != Rule::kCased), text_(lowered_ ? py::object(text.attr("lower")()) : py::object(text)) {
    if (!PyUnicode_Check(text_.ptr())) throw py::type_error("lower() of a text must give a str.");
    kind_ = PyUnicode_KIND(text_.ptr());
    data_ = PyUnicode_DATA(text_.ptr());
    length_ = PyUnicode_GET_LENGTH(text_.ptr());
  }

  Py_ssize_t length() const { return length_; }

  // Needs no lock: a string does not change, and this one is held.
  Py_UCS4 at(Py_ssize_t i) const {
    constexpr Py_UCS4 final_sigma = 0x3C2, sigma = 0x3C3;
    const Py_UCS4 c = PyUnicode_READ(kind_, data_, i);
    return lowered_ && c == final_sigma ? sigma : c;
  }

 private:
  bool lowered_;
  py::object text_;
  int kind_;
  const void* data_;
  Py_ssize_t length_;
};

struct Segment {
  uint64_t hash;
  uint64_t power;
};

// Appends the words of the text, the first and the last of which may be parts, and returns its flags.
int64_t cut(const Characters& text, Rule rule, std::vector<Segment>& segments) {
  Kind before = Kind::kSpace;
  for (Py_ssize_t i = 0; i < text.length(); ++i) {
    const Py_UCS4 c = text.at(i);
    const Kind kind = kind_of(c, rule);
    if (kind == Kind::kLetter && before == Kind::kLetter) {
      Segment& word = segments.back();
      word = {word.hash * kHashBase + mixed(c), word.power * kHashBase};
    } else if (kind != Kind::kSpace) {
      segments.push_back({mixed(c), kHashBase});
    }
    before = kind;
  }
  if (text.length() == 0) return kEmpty;
  return (kind_of(text.at(0), rule) == Kind::kLetter ? kJoins : 0) | (before == Kind::kLetter ? kOpens : 0);
}

std::vector<Characters> characters_of(const std::vector<py::str>& texts, Rule rule) {
  std::vector<Characters> result;
  result.reserve(texts.size());
  for (const py::str& text : texts) result.emplace_back(text, rule);
  return result;
}

// An array that owns its values.
py::array_t<int64_t> as_array(std::vector<int64_t>&& values, std::vector<py::ssize_t> shape) {
  auto* const held = new std::vector<int64_t>(std::move(values));
  const py::capsule owner(held, [](void* p) { delete static_cast<std::vector<int64_t>*>(p); });
  return py::array_t<int64_t>(std::move(shape), held->data(), owner);
}

std::tuple<py::array_t<int64_t>, py::array_t<int64_t>> hash_words(const std::vector<py::str>& texts,
                                                                  const std::string& rule_name) {
  const Rule rule = rule_named(rule_name);
  const std::vector<Characters> characters = characters_of(texts, rule);
  std::vector<int64_t> hashes, lengths;
  size_t longest = 0;
  {
    const py::gil_scoped_release release;
    std::vector<Segment> words;
    std::vector<size_t> ends;
    for (const Characters& text : characters) {
      cut(text, rule, words);
      const size_t length = words.size() - (ends.empty() ? 0 : ends.back());
      ends.push_back(words.size());
      lengths.push_back(static_cast<int64_t>(length));
      longest = std::max(longest, length);
    }
    hashes.resize(characters.size() * longest);
    for (size_t row = 0, word = 0; row < ends.size(); ++row) {
      for (size_t column = 0; word < ends[row]; ++word) {
        hashes[row * longest + column++] = static_cast<int64_t>(words[word].hash);
      }
    }
  }
  const auto rows = static_cast<py::ssize_t>(characters.size());
  return {as_array(std::move(hashes), {rows, static_cast<py::ssize_t>(longest)}), as_array(std::move(lengths), {rows})};
}

std::tuple<py::array_t<int64_t>, py::array_t<int64_t>, int64_t> piece_table(const std::vector<py::str>& texts,
                                                                            const std::string& rule_name) {
  const Rule rule = rule_named(rule_name);
  const std::vector<Characters> characters = characters_of(texts, rule);
  std::vector<int64_t> pieces, values;
  size_t most = 0;
  {
    const py::gil_scoped_release release;
    std::vector<Segment> segments;
    for (const Characters& text : characters) {
      const size_t first = segments.size();
      const int64_t flags = cut(text, rule, segments);
      pieces.push_back(static_cast<int64_t>(first) << kFlagBits | flags);
      most = std::max(most, segments.size() - first);
    }
    pieces.push_back(static_cast<int64_t>(segments.size()) << kFlagBits);
    for (const Segment& segment : segments) {
      values.push_back(static_cast<int64_t>(segment.hash));
      values.push_back(static_cast<int64_t>(segment.power));
    }
  }
  const auto entries = static_cast<py::ssize_t>(pieces.size()), count = static_cast<py::ssize_t>(values.size() / 2);
  return {as_array(std::move(pieces), {entries}), as_array(std::move(values), {count, 2}), static_cast<int64_t>(most)};
}

}  // namespace

void bind_words(py::module_& m) {
  m.def("hash_words", &hash_words, py::arg("texts"), py::arg("rule"),
        "Hashes of the words of each text, padded with 0, and how many there are.");
  m.def("piece_table", &piece_table, py::arg("texts"), py::arg("rule"),
        "What the operator word_hashes puts words together from: pieces, segments, and the most segments of a piece.");
}

}  // namespace rlseq2seq
