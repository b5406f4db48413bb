// The program's own symbol table: dladdr knows exported functions only, and a Rust program exports none.
#include "symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <regex>
#include <vector>

namespace simulated_cuda {
namespace {

struct Function {
  uintptr_t start, end;
  const char* name;
};

// The functions of /proc/self/exe by address, as they were linked.
struct Program {
  std::string bytes;
  std::vector<Function> functions;
  uintptr_t base = 0;  // where the program was loaded

  Program() {
    std::ifstream file("/proc/self/exe", std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
    if (bytes.size() < sizeof(Elf64_Ehdr) || bytes.compare(0, SELFMAG, ELFMAG) != 0) return;
    const auto* header = at<Elf64_Ehdr>(0);
    for (int i = 0; i < header->e_shnum; i++) {
      const auto* section = at<Elf64_Shdr>(header->e_shoff + i * header->e_shentsize);
      if (section->sh_type == SHT_SYMTAB) read(*header, *section);
    }
    std::sort(functions.begin(), functions.end(), [](auto& a, auto& b) { return a.start < b.start; });
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* base) {
          *static_cast<uintptr_t*>(base) = info->dlpi_addr;
          return 1;  // the first one is the program
        },
        &base);
  }

  template <class T>
  const T* at(size_t offset) const {
    return reinterpret_cast<const T*>(bytes.data() + offset);
  }

  void read(const Elf64_Ehdr& header, const Elf64_Shdr& section) {
    const auto* names = at<Elf64_Shdr>(header.e_shoff + section.sh_link * header.e_shentsize);
    const auto* symbols = at<Elf64_Sym>(section.sh_offset);
    for (size_t i = 0; i < section.sh_size / sizeof(Elf64_Sym); i++) {
      const auto& one = symbols[i];
      if (ELF64_ST_TYPE(one.st_info) != STT_FUNC || one.st_size == 0) continue;
      functions.push_back({one.st_value, one.st_value + one.st_size, at<char>(names->sh_offset + one.st_name)});
    }
  }

  const char* find(void* address) const {
    const uintptr_t here = reinterpret_cast<uintptr_t>(address) - base;
    auto after = std::upper_bound(functions.begin(), functions.end(), here,
                                  [](uintptr_t address, const Function& f) { return address < f.start; });
    if (after == functions.begin()) return nullptr;
    --after;
    return here <= after->end ? after->name : nullptr;
  }
};

// Rust's mangling is that of C++ but for a hash at the end and characters that C++ has not.
std::string readable(const char* name) {
  int status = 0;
  char* plain = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string text = status == 0 ? plain : name;
  std::free(plain);
  static const std::regex hash("::h[0-9a-f]{16}$");
  text = std::regex_replace(text, hash, "");
  static const std::map<std::string, std::string> meaning{
      {"$LT$", "<"}, {"$GT$", ">"}, {"$RF$", "&"}, {"$BP$", "*"}, {"$C$", ","},
      {"$LP$", "("}, {"$RP$", ")"}, {"$u20$", " "}, {"$u7b$", "{"}, {"$u7d$", "}"},
  };
  for (const auto& [code, letter] : meaning) {
    for (size_t at; (at = text.find(code)) != std::string::npos;) text.replace(at, code.size(), letter);
  }
  for (size_t at; (at = text.find("..")) != std::string::npos;) text.replace(at, 2, "::");
  // An underscore stands before what a name must not begin with.
  for (const char* after : {"<", "{"}) {
    const std::string both = std::string("_") + after;
    for (size_t at; (at = text.find(both)) != std::string::npos;) text.erase(at, 1);
  }
  return text;
}

}  // namespace

const std::string& function_name(void* address) {
  // Never destroyed, like the counters that ask.
  static const auto& program = *new Program;
  static auto& known = *new std::map<void*, std::string>;
  static auto& lock = *new std::mutex;
  std::lock_guard<std::mutex> guard(lock);
  const auto [entry, is_new] = known.try_emplace(address);
  if (is_new) {
    const char* name = program.find(address);
    if (name) entry->second = readable(name);
  }
  return entry->second;
}

}  // namespace simulated_cuda
