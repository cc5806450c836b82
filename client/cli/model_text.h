#ifndef SCONCE_CLIENT_CLI_MODEL_TEXT_H_
#define SCONCE_CLIENT_CLI_MODEL_TEXT_H_

#include <string>

#include "client/cli/output.h"
#include "sconce/v1/model_service.pb.h"

// A deployment in words.
namespace sconce::cli {

std::string WeightsText(const v1::Model& model);   // "digits@best /model_state_dict"
std::string VersionsText(const v1::Model& model);  // "4, 3 PREVIOUS, 5 CANARY LOADING"; "-" without any
// A change of it, done: a line, JSON, or the name.
void PrintModel(const v1::Model& model, OutputFormat format);

}  // namespace sconce::cli

#endif  // SCONCE_CLIENT_CLI_MODEL_TEXT_H_
