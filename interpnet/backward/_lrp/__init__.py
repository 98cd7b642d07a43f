"""Layer-wise relevance propagation and deep Taylor decomposition: zennit's rules on this project's engine."""
