package com.google.ai.edge.litert

enum class Accelerator { NONE, CPU, GPU, NPU }
