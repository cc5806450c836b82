#ifndef SCONCE_TESTS_SUPPORT_XXH3_COLLISION_H_
#define SCONCE_TESTS_SUPPORT_XXH3_COLLISION_H_

#include <string>
#include <utility>

namespace sconce {

// Two different contents with the same XXH3-128, which `base` (more than 1 KiB) is changed into at its first 72 bytes.
//
// XXH3 of long inputs adds to one accumulator the product of the two halves of (word xor secret), and to its neighbour
// the word itself. A word whose lower half equals the secret's has the product 0, whatever its upper half is; so what
// is added to one such word and taken from another of the same lane shows nowhere.
std::pair<std::string, std::string> CollideXxh3(std::string base);

}  // namespace sconce

#endif  // SCONCE_TESTS_SUPPORT_XXH3_COLLISION_H_
