"""Fastmax in Hugging Face's transformers: `pip install ".[hf]"`.

```python
import fastmax.hf

fastmax.hf.register()
model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="fastmax")
model.generate(**inputs, cache=fastmax.hf.cache(model))
```

Weights that were trained with softmax do not give the same model under Fastmax: f(s) = 1 + s + s^2 / 2 of standardised
queries and keys is another function than exp(s). Expect the loss to jump when attention is swapped, and fine-tune.
"""

from fastmax.hf._attention import register
from fastmax.hf._cache import FastmaxCacheLayer, cache
from fastmax.hf._model import FastmaxConfig, FastmaxForCausalLM, FastmaxModel

__all__ = ["FastmaxCacheLayer", "FastmaxConfig", "FastmaxForCausalLM", "FastmaxModel", "cache", "register"]
