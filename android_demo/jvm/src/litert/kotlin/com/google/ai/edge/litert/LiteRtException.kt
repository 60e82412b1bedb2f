package com.google.ai.edge.litert

class LiteRtException(message: String) : Exception(message)
