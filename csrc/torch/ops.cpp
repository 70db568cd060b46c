// Schemas of the dispatcher operators. fan_ext/functional.py wraps them, fan_ext/operators.py gives them their
// derivative.
#include <torch/csrc/stable/library.h>

// Frames are (B, N), or (T,) with offsets. logits is what the backward pass needs, of shape (3 or 1, B * N or T).
// alpha, beta and final have the shape of the frames with return_weights, else (0,); so has beta without
// relation_weight.
STABLE_TORCH_LIBRARY(fan_ext, library) {
  library.def(
      "frame_attention_forward(Tensor features, Tensor self_weight, Tensor? relation_weight, Tensor? self_bias, "
      "Tensor? relation_bias, Tensor? mask, Tensor? offsets, SymInt? max_frames, bool return_weights) "
      "-> (Tensor out, Tensor logits, Tensor alpha, Tensor beta, Tensor final)");
  // Gradients come in the type of what they are the gradients of, those of biases that are not given in the
  // accumulation type. Without relation_weight its gradient and its bias's have shape (0,); grad_features has it unless
  // features_need_grad.
  library.def(
      "frame_attention_backward(Tensor grad_out, Tensor? grad_alpha, Tensor? grad_beta, Tensor features, "
      "Tensor self_weight, Tensor? relation_weight, Tensor? mask, Tensor? offsets, SymInt? max_frames, Tensor out, "
      "Tensor logits, bool features_need_grad, Tensor? self_bias=None, Tensor? relation_bias=None) "
      "-> (Tensor grad_features, Tensor grad_self_weight, Tensor grad_relation_weight, Tensor grad_self_bias, "
      "Tensor grad_relation_bias)");
}
